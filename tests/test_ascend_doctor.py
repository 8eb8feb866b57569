"""The doctor: what it finds on machines that something is wrong with."""
from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Optional

import pytest
from ascend_cases import row, run
from conftest import done, one_error

from ascend import cann, doctor, toolkit_checks
from ascend.codes import explain_output
from tests.emulator import environment


def test_a_machine_that_is_well(tmp_path):
    finished = run(environment(devices=2, npu_smi={"npu_ids": [8, 64]}), "-m", "ascend.doctor", "--soc_version",
                   "Ascend310P3", "--device", "0,1")
    found = " ".join(finished.stdout.split())
    assert finished.returncode == 0 and found.endswith("ready") and "problem" not in found, finished.stdout
    assert "CANN ok 9.1.0; takes ONNX of opset 9 to 18" in found and "firmware of NPU 64 ok 7.1.0.3.220" in found
    assert "device 1 ok 310P3, NPU id 64" in found  # the two numberings side by side


@pytest.mark.parametrize("config, options, what, hint", [
    row(1, {"errors": [{"call": "aclrtSetDevice", "code": 507033}]}, [], "open device 0", "driver, firmware and CANN"),
    row(1, {"errors": [{"call": "aclInit", "code": 507008}]}, [], "pyACL", "ascend_install.info"),
    row(2, {}, ["--soc_version", "Ascend310"], "soc version", "507008"),
    row(2, {}, ["--soc_version", "Ascend910B"], "soc version", "Ascend910B1"),
    row(2, {}, ["--soc_version", "310p3"], "soc version", "Did you mean Ascend310P3?"),
    row(3, {"set_env": False}, [], "set_env.sh", "source"), row(3, {"set_env": False}, [], "atc", "not on PATH"),
    row(3, {"acl": False}, [], "pyACL", "No module named 'acl'"), row(5, {"ais_bench": None}, [], "ais_bench",
                                                                      "--runner acl"),
    row(15, {"npu_smi": {"error": -8005}}, [], "npu-smi", "in a container pass"),
    row(15, {"npu_smi": {"error": -8020}}, [], "npu-smi", "another container holds the device"),
    row(16, {}, ["--device", "3"], "open device 3", "107001"),
    row(17, {"errors": [{"call": "aclrtSetDevice", "code": 507000, "message": "TsdOpen failed. devId=0"}]}, [],
        "open device 0", "unset ASCEND_AICPU_PATH")])
def test_problems_and_what_to_do(tmp_path, config, options, what, hint):
    finished = run(environment(**config), "-m", "ascend.doctor", *options)
    assert finished.returncode == 2 and finished.stdout.splitlines()[-1].endswith("problems")
    row = next(line for line in finished.stdout.splitlines() if line.startswith(f"{what} ") and " problem " in line)
    assert hint in row


def test_a_driver_that_says_its_firmware_does_not_fit(monkeypatch):
    monkeypatch.setattr(doctor, "npu_smi", lambda *arguments: "\tFirmware Version : 6.4\n\tCompatibility : NOK\n")
    finding = doctor.check_firmware(8)
    assert finding.state == "problem" and finding.found == "6.4, compatibility NOK"


@pytest.mark.parametrize("found, hint", [
    row(15, {}, "/dev/davinci0: not there: in a container pass --device=/dev/davinci0; else load the driver"),
    row(15, {"/dev/davinci5": 0o600, "/dev/davinci_manager": 0o660, "/dev/devmm_svm": 0o660, "/dev/hisi_hdc": 0o660},
        "/dev/davinci5: not yours to read and write: join the group HwHiAiUser, or run as root")])
def test_device_nodes(monkeypatch, found, hint):
    """None, and one that has the number of its host in a container where it is device 0."""
    monkeypatch.setattr(doctor.glob, "glob", lambda pattern: [path for path in found if path[-1].isdigit()])
    monkeypatch.setattr(os.path, "exists", found.__contains__)
    monkeypatch.setattr(os, "access", lambda path, mode: found[path] == 0o660)
    findings = [f"{what}: {problem}: {remedy}" for what, _, problem, remedy in doctor.check_nodes()]
    assert findings[0] == hint and len(findings) == (1 if found else 4)


def test_device_nodes_are_looked_at_when_a_device_cannot_be_opened(tmp_path):
    broken = environment(errors=[{"call": "aclrtSetDevice", "code": 507033}])
    assert run(broken, "-m", "ascend.doctor", "--device", "0,1").stdout.count("/dev/davinci_manager ") == 1
    assert "/dev/davinci" not in run(environment(), "-m", "ascend.doctor").stdout


def test_visible_devices_and_both_numberings_are_shown(tmp_path):
    env = environment(devices=3, npu_smi={"npu_ids": [8, 64, 65]})
    found = " ".join(run({**env, "ASCEND_RT_VISIBLE_DEVICES": "1,2"}, "-m", "ascend.doctor").stdout.split())
    assert "2 devices, ASCEND_RT_VISIBLE_DEVICES=1,2" in found and "device 2 ok 310P3, NPU id 65" in found


def test_ais_bench_is_not_missed_by_who_does_not_need_it(tmp_path):
    finished = run(environment(ais_bench=None), "-m", "ascend.doctor", "--runner", "acl")
    assert finished.returncode == 0 and "note" in finished.stdout


@pytest.mark.parametrize("package, error, hint", [
    row(3, "import attr", "No module named 'attr'", " attrs"),
    row(3, "import decorator_x", "", "decorator_x"),
    row(4, "raise AttributeError('module numpy has no attribute float_')", "float_", "numpy must be below 2")])
def test_a_compiler_that_lacks_a_package(tmp_path, package, error, hint):
    """CANN's own module tbe imports what it needs."""
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    (tmp_path / "tbe.py").write_text(package + "\n")
    if package == "import attr":
        (tmp_path / "attr.py").write_text("raise ModuleNotFoundError(\"No module named 'attr'\")\n")
    finished = run(env, "-m", "ascend.doctor")
    row = next(line for line in finished.stdout.splitlines() if line.startswith("operator compiler"))
    assert finished.returncode == 2 and " problem " in row and error in row and hint in row


@pytest.mark.parametrize("release, running, python, numpy", [
    ("6.0.RC1", (3, 7, 5), (3, 9), (None, (2,))), ("7.0.0", (3, 9, 1), (3, 9), (None, (2,))),
    ("8.0.0", (3, 9, 1), (3, 11, 4), ((1, 19, 2), (1, 25))), ("8.2.RC1", (3, 9, 1), (3, 11, 4), ((1, 19, 2), (1, 25))),
    ("8.3.RC1", (3, 9, 1), (3, 11, 4), ((1, 19, 2), (1, 25))), ("8.5.0", (3, 11, 4), (3, 13), (None, (2,))),
    ("8.5.0", (3, 13, 1), (3, 13), ((2, 1), None)), ("9.0.0", (3, 11, 4), (3, 13), ((1, 19, 2), None)),
    ("9.0.0-beta.1", (3, 11, 4), (3, 13), (None, (2,))), ("9.1.0", (3, 14, 0), (3, 14), ((1, 19, 2), None))])
def test_what_a_release_is_for(release, running, python, numpy):
    """The installation page of each release."""
    limits = cann.limits(release, running)
    assert limits.python == ((3, 7), python) and limits.numpy == numpy
    assert limits.opset[0] <= 11 <= 13 <= limits.opset[1]  # 11 and 13 suit all


@pytest.mark.parametrize("release, version, numpy, what, hint", [
    row(4, "8.1.RC1", [3, 13, 1], "1.26.4", "python3 on PATH", "put a Python 3.10 with numpy below 2 first on PATH"),
    row(4, "8.2.RC1", [3, 10, 2], "2.0.1", "its numpy", "python3 -m pip install 'numpy>=1.19.2,<1.25'"),
    row(4, "8.5.0", [3, 11, 2], None, "its numpy", "python3 -m pip install 'numpy<2'")])
def test_python_and_numpy_that_are_too_new(tmp_path, release, version, numpy, what, hint):
    finished = examine(with_python(environment(cann=release), tmp_path, version, numpy))
    line = next(line for line in finished.stdout.splitlines() if line.startswith(what))
    assert finished.returncode == 2 and " problem " in line and line.endswith(hint)


def with_python(env: dict, folder: Path, version: list, numpy: Optional[str], **missing: None) -> dict:
    """The machine with a python3 on PATH that says this of itself."""
    facts = {"executable": "/usr/bin/python3", "version": version, "packages": {"numpy": numpy, "aclruntime": "0.0.2"},
             "modules": {**dict.fromkeys(cann.MODULES, str(folder)), **missing}}
    (folder / "python3").write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(facts)}\nEND\n")
    (folder / "python3").chmod(0o755)
    return {**env, "PATH": f"{folder}:{env['PATH']}"}


def examine(env: dict):
    return run(env, "-m", "ascend.doctor")


def line_of(finished, what: str) -> str:
    return next(line for line in finished.stdout.splitlines() if line.startswith(what))


@pytest.mark.parametrize("release, version, numpy, what, hint", [
    ("8.3.RC1", [3, 10, 2], "1.26.4", "its numpy", "CANN 8.3.RC1 is for >=1.19.2 and <1.25"),
    ("8.0.0", [3, 8, 2], "1.17.0", "its numpy", "if atc fails, python3 -m pip install 'numpy>=1.19.2,<1.25'"),
    ("8.2.RC1", [3, 11, 9], "1.24.0", "python3 on PATH", "3.7 to 3.11.4"),
    ("6.0.RC1", [3, 10, 2], "1.24.0", "python3 on PATH", "CANN 6.0.RC1 is for 3.7 to 3.9")])
def test_what_is_outside_a_release_but_may_work_is_a_note(tmp_path, release, version, numpy, what, hint):
    finished = examine(with_python(environment(cann=release), tmp_path, version, numpy))
    assert " note " in line_of(finished, what) and hint in line_of(finished, what)
    assert finished.returncode == 0, finished.stdout


def test_all_packages_that_cann_lacks_are_named_at_once(tmp_path):
    """Official images of 8.5 carry none of them."""
    env = with_python(environment(), tmp_path, [3, 9, 1], "1.24.0", attr=None, decorator=None, absl=None, yaml=None)
    assert " note " in line_of(examine(env), "operator compiler")  # that python3 imports anything
    python = tmp_path / "python3"
    fails = "/bin/sh\n[ \"$2\" = 'import tbe' ] && echo \"No module named 'attr'\" >&2 && exit 1\n"
    python.write_text(python.read_text().replace("/bin/sh\n", fails))
    line = line_of(examine(env), "operator compiler")
    assert " problem " in line and line.endswith("python3 -m pip install attrs decorator pyyaml absl-py")


def test_a_compiler_whose_import_hangs(monkeypatch):
    monkeypatch.setattr(toolkit_checks, "SECONDS_FOR_COMPILER", 0.2)
    monkeypatch.setattr(toolkit_checks, "COMPILER", "time; time.sleep(60)")
    finding = toolkit_checks.check_compiler(dict.fromkeys((*cann.MODULES, toolkit_checks.COMPILER), "/opt/cann/tbe"))
    assert finding.state == "note" and "took more than 0.2 s" in finding.found


def test_a_python_without_a_shared_library(tmp_path):
    """atc opens libpython: E40001. No machine has that of 3.6 in the linker's cache."""
    line = line_of(examine(with_python(environment(libpython=False), tmp_path, [3, 6, 1], "1.16.0")), "its libpython")
    assert " note " in line and "no libpython3.6.so.1.0" in line and "E40001" in line and "--enable-shared" in line
    assert " ok " in line_of(examine(environment()), "its libpython")


def test_the_operators_of_the_chip_are_a_package_of_their_own_from_8_5_on():
    line = line_of(examine(environment(kernels=False)), "operators")
    assert " note " in line and "kernel/ascend310p" in line and "EZ3003" in line and "Ascend-cann-...-ops" in line
    assert " ok " in line_of(examine(environment()), "operators")
    assert "\noperators" not in examine(environment(kernels=False, cann="8.3.RC1")).stdout


@pytest.mark.parametrize("files, version", [
    ({"aarch64-linux/ascend_toolkit_install.info": "package_name=x\nversion=8.1.RC1\n",
      "version.cfg": "toolkit_running_version=[7.7.0.1.238:8.0.0]\n"}, "8.1.RC1"),
    ({"compiler/version.info": "Version=7.7.0.1.238\nversion_dir=8.1.RC1\n"}, "8.1.RC1"),
    ({"compiler/version.info": "Version=7.7.0.1.238\n"}, None), ({}, None),
    ({"version.cfg": "# version: 1.0\nruntime_running_version=[7.7.0.1.238:8.1.RC1]\n"}, "8.1.RC1")])
def test_the_version_is_that_of_cann_and_not_of_a_component(tmp_path, monkeypatch, files, version):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    assert cann.version() == version


@pytest.mark.parametrize("version", ["3.7", "3.9"])
def test_the_doctor_on_a_server_with_an_old_python(server_python, version):
    """Beside it the project's Python runs the doctor."""
    finished = examine(environment(python=server_python(version), cann="7.0.0", ais_bench=None))
    assert re.search(rf"python3 on PATH +ok +{version}", finished.stdout)
    assert re.search(r"its numpy +ok +1\.\d", finished.stdout)


def test_a_python_on_path_that_does_not_run(tmp_path):
    env = environment()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bin" / "python3").chmod(0o755)
    env["PATH"] = f"{tmp_path}/bin:{env['PATH']}"
    assert "correct PATH" in one_error(run(env, "-m", "ascend.doctor"))


@pytest.mark.parametrize("gigabytes, told, state", [row(12, 4, "", "note"), (4, "1", "ok"), (16, "", "ok")])
def test_little_memory_for_atc(monkeypatch, gigabytes, told, state):
    sizes = {"SC_PAGE_SIZE": 1 << 12, "SC_PHYS_PAGES": gigabytes << 18}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.delenv("TE_PARALLEL_COMPILER", raising=False)
    if told:
        monkeypatch.setenv("TE_PARALLEL_COMPILER", told)
    (finding,) = doctor.check_memory()
    assert finding.state == state and ("export TE_PARALLEL_COMPILER=1" in finding.remedy) == (state == "note")


@pytest.mark.parametrize("text, codes", [
    ("E10001: [PID: 71] 2024-01-01 value is invalid", ["E10001"]), ("EZ9999: Inner Error!\nEZ9999: again", ["EZ9999"]),
    ("aclrtSetDevice failed, ret = 507033", ["507033"]), ("load model x_bs16.om failed, errorCode is 507008",
                                                          ["507008"]),
    ("[ERROR] TsdOpen failed. devId=0", ["TsdOpen"]), ("wrote 100000 files, 200000 bytes in 507008 us", []),
    ("EL0003: driver", ["EL0003"])])
def test_codes_are_found_in_what_tools_print(text, codes):
    lines = explain_output(text)
    assert [line.split(":")[0] for line in lines] == codes


def test_two_machines_are_compared(tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, machine in zip(files, ({}, {"cann": "9.0.0", "devices": 2, "npu_smi": {"health": "Alarm"}})):
        done(run(environment(**machine), "-m", "ascend.doctor", "--save", path))
    same = run(environment(), "-m", "ascend.doctor", "--diff", files[0], files[0])
    assert same.stdout == "no differences\n" and same.returncode == 0
    other = run({}, "-m", "ascend.doctor", "--diff", *files)  # needs no CANN
    rows = {row[0]: row[1:] for row in (re.split(r"\s{2,}", line) for line in other.stdout.splitlines()[1:])}
    assert other.returncode == 1 and rows["CANN"] == [f"{release}; takes ONNX of opset 9 to 18"
                                                      for release in ("9.1.0", "9.0.0")]
    assert rows["device 1"][0] == "-" and rows["device 0"][1].startswith("note: 310P3") and "memory" not in rows
    assert json.loads(files[0].read_text())["emulated"] is True
    files[1].write_text("{}")
    assert "ascend.doctor --save writes" in one_error(run({}, "-m", "ascend.doctor", "--diff", *files))
