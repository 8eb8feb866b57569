"""The doctor: what it finds on machines that something is wrong with."""
from __future__ import annotations

import importlib.metadata
import sys

import pytest
from ascend_cases import run
from conftest import one_error

from ascend import cann, doctor
from ascend.codes import explain_output
from tests.emulator import environment


def test_a_machine_that_is_well(tmp_path):
    finished = run(environment(devices=2, npu_smi={"npu_ids": [8, 64]}), "-m", "ascend.doctor", "--soc_version",
                   "Ascend310P3", "--device", "0,1")
    found = " ".join(finished.stdout.split())
    assert finished.returncode == 0 and found.endswith("ready") and "problem" not in found, finished.stdout
    assert "CANN ok 8.5.0; takes ONNX of opset 9 to 18" in found and "firmware of NPU 64 ok 7.1.0.3.220" in found
    assert "device 1 ok 310P3, NPU id 64" in found  # the two numberings side by side


@pytest.mark.parametrize("config, options, what, hint", [
    ({"set_env": False}, [], "set_env.sh", "source"), ({"set_env": False}, [], "atc", "not on PATH"),
    ({"acl": False}, [], "pyACL", "No module named 'acl'"),
    ({"ais_bench": None}, [], "ais_bench", "--runner acl"), ({"npu_smi": {"error": -8005}}, [], "npu-smi", "container"),
    ({"errors": [{"call": "aclrtSetDevice", "code": 507033}]}, [], "open device 0", "driver, firmware and CANN"),
    ({"errors": [{"call": "aclInit", "code": 507008}]}, [], "pyACL", "ascend_install.info"),
    ({}, ["--device", "3"], "open device 3", "107001"), ({}, ["--soc_version", "Ascend310"], "soc version", "507008"),
    ({}, ["--soc_version", "Ascend910B"], "soc version", "Ascend910B1"),
    ({}, ["--soc_version", "310p3"], "soc version", "Did you mean Ascend310P3?")])
def test_problems_and_what_to_do(tmp_path, config, options, what, hint):
    finished = run(environment(**config), "-m", "ascend.doctor", *options)
    assert finished.returncode == 2 and finished.stdout.splitlines()[-1].endswith("problems")
    row = next(line for line in finished.stdout.splitlines() if line.startswith(f"{what} ") and " problem " in line)
    assert hint in row


def test_a_driver_that_says_its_firmware_does_not_fit(monkeypatch):
    monkeypatch.setattr(doctor, "npu_smi", lambda *arguments: "\tFirmware Version : 6.4\n\tCompatibility : NOK\n")
    finding = doctor.check_firmware(8)
    assert finding.state == "problem" and finding.found == "6.4, compatibility NOK"


def test_device_nodes_are_looked_at_when_a_device_cannot_be_opened(tmp_path):
    broken = environment(errors=[{"call": "aclrtSetDevice", "code": 507033}])
    assert "/dev/davinci_manager" in run(broken, "-m", "ascend.doctor").stdout
    assert "/dev/davinci" not in run(environment(), "-m", "ascend.doctor").stdout


def test_ais_bench_is_not_missed_by_who_does_not_need_it(tmp_path):
    finished = run(environment(ais_bench=None), "-m", "ascend.doctor", "--runner", "acl")
    assert finished.returncode == 0 and "note" in finished.stdout


@pytest.mark.parametrize("package, error, hint", [
    ("import attr", "No module named 'attr'", "pip install attrs"), ("import decorator_x", "", "install decorator_x"),
    ("raise AttributeError('module numpy has no attribute float_')", "float_", "numpy must be below 2")])
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


@pytest.mark.parametrize("release, python, numpy", [
    ("6.0.RC1", (3, 7), (2,)), ("7.0.0", (3, 9), (2,)), ("8.0.0", (3, 10), (2,)), ("8.1.RC1", (3, 11), (2,)),
    ("8.2.RC1", (3, 11), (2,)), ("8.3.RC1", (3, 11), (1, 25)), ("8.5.0", (3, 13), None), ("9.1.0", (3, 14), None)])
def test_what_a_release_works_with(release, python, numpy):
    limits = cann.limits(release)
    assert limits.python[1] == python and limits.numpy == numpy
    assert limits.opset[0] <= 11 <= 13 <= limits.opset[1]  # 11 and 13 suit all


def test_python_and_numpy_that_are_too_new(tmp_path):
    finished = run(environment(cann="7.0.0"), "-m", "ascend.doctor")
    rows = {name: line for line in finished.stdout.splitlines() for name in ("python3 on PATH", "its numpy")
            if line.startswith(name)}
    assert sys.version_info[:2] <= (3, 9) or "3.7 to 3.9" in rows["python3 on PATH"]
    assert cann.numbers(importlib.metadata.version("numpy")) < (2,) or "numpy<2" in rows["its numpy"]


def test_a_python_on_path_that_does_not_run(tmp_path):
    env = environment()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bin" / "python3").chmod(0o755)
    env["PATH"] = f"{tmp_path}/bin:{env['PATH']}"
    assert "mend PATH" in one_error(run(env, "-m", "ascend.doctor"))


@pytest.mark.parametrize("text, codes", [
    ("E10001: [PID: 71] 2024-01-01 value is invalid", ["E10001"]), ("EZ9999: Inner Error!\nEZ9999: again", ["EZ9999"]),
    ("aclrtSetDevice failed, ret = 507033", ["507033"]), ("load model x_bs16.om failed, errorCode is 507008",
                                                          ["507008"]),
    ("[ERROR] TsdOpen failed. devId=0", ["TsdOpen"]), ("wrote 100000 files, 200000 bytes in 507008 us", []),
    ("EL0003: driver", ["EL0003"])])
def test_codes_are_found_in_what_tools_print(text, codes):
    lines = explain_output(text)
    assert [line.split(":")[0] for line in lines] == codes
