"""What can go wrong with a kit on its way: each gives one clear line and loses nothing. The smallest model is used."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from ascend_cases import alive, run, wait_for
from conftest import done, one_error
from kit_cases import BARE, SOC, run_kit, unpack

from contract.errors import UserError
from kit import judge, server
from kit.archive import SUMS, read_sums, write_tar
from kit.archive import unpack as unpack_safely
from tests.emulator import CANN, environment

BATCH = 4
NAME = f"{SOC}_bs{BATCH}"


@pytest.fixture(scope="module")
def packed(coco, small_model, small_cfg, tmp_path_factory):
    """A kit of 12 people and its work folder."""
    folder = tmp_path_factory.mktemp("packed")
    done(run(BARE, "pack.py", "--quiet", "--target", SOC, "--batch", BATCH, "--model", small_model, "--cfg", small_cfg,
             "--dtype", "float32", "--no_flip", "--dataroot", coco, "--detections", coco / "detections.json", "--work",
             folder / "work", "--output", folder / "any name.tar"))
    return folder


@pytest.fixture()
def kit(packed, tmp_path) -> Path:
    """Unpacked: kit/, whatever the tar is called."""
    return unpack(packed / "any name.tar", tmp_path)


@pytest.fixture(scope="module")
def ran(packed, tmp_path_factory) -> Path:
    """A kit that has run, not to be written to."""
    kit = unpack(packed / "any name.tar", tmp_path_factory.mktemp("ran"))
    done(run_kit(kit, environment()))
    return kit


def judged(packed: Path, *tars: Path) -> subprocess.CompletedProcess:
    return run(BARE, "pack.py", "--quiet", "--judge", *tars, "--work", packed / "work")


def say_again(kit: Path, *names: str) -> None:
    """Let SHA256SUMS be right for files that a test has changed: another kit."""
    lines = [line.split("  ", 1) for line in (kit / SUMS).read_text().splitlines()]
    (kit / SUMS).write_text("".join(
        f"{hashlib.sha256((kit / name).read_bytes()).hexdigest() if name in names else digest}  {name}\n"
        for digest, name in lines))


def assert_same_dumps(kit: Path, other: Path) -> None:
    paths = sorted((kit / "results" / NAME).glob("*_0.bin"))
    assert len(paths) == 12
    assert [path.read_bytes() for path in paths] == \
        [(other / "results" / NAME / path.name).read_bytes() for path in paths]


def damage(path: Path, place: Optional[int] = None) -> None:
    """Change one bit of the byte at `place`, or in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


def first_bin(kit: Path) -> Path:
    return kit / "prep_data" / "000000000000.bin"


@pytest.mark.parametrize("harm, hint", [
    (lambda kit: damage(first_bin(kit)), "prep_data/000000000000.bin: damaged"),
    (lambda kit: damage(kit / "program" / "infer.py"), "the programs of this kit are damaged"),
    (lambda kit: first_bin(kit).unlink(), "1 of "),
    (lambda kit: (kit / SUMS).unlink(), "only a part was copied or unpacked"),
    (lambda kit: first_bin(kit).rename(kit / "prep_data" / "000000~1.BIN"), "is called 000000~1.BIN here"),
    (lambda kit: (kit / "run.sh").write_bytes((kit / "run.sh").read_bytes().replace(b"\n", b"\r\n")),
     "this file has Windows line ends"),
], ids=["damaged", "damaged program", "missing", "partly copied", "renamed", "line ends"])
def test_a_kit_that_a_copy_has_changed(kit, harm, hint):
    harm(kit)
    finished = run_kit(kit, environment())
    assert finished.returncode == 2 and hint in finished.stderr
    assert [line for line in finished.stderr.splitlines() if "error: " in line] == \
        [line for line in finished.stderr.splitlines() if hint in line]
    assert not (kit / "results").exists()


def test_permissions_that_a_copy_has_lost_are_put_right(kit, monkeypatch):
    """ais_bench of 2024 refuses what others may write. A stick has no permissions that could be changed."""
    files = [kit, *kit.rglob("*")]
    for path in files:
        path.chmod(0o777)
    with monkeypatch.context() as stick, pytest.raises(UserError, match="its permissions are 0777.* not on a stick"):
        stick.setattr(os, "chmod", lambda path, mode: None)
        server.check_modes(kit)
    server.check_modes(kit)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o750, 0o640}


@pytest.mark.parametrize("machine, hint", [
    ({"soc": "Ascend910B2"}, "this machine has Ascend910B2"),
    ({"errors": [{"call": "aclrtSetDevice", "code": 507033}]}, "driver, firmware and CANN"),
    ({"errors": [{"call": "atc", "effect": "killed"}]}, "Memory was short"),
], ids=["other soc", "device", "atc"])
def test_a_machine_that_does_not_fit(kit, machine, hint):
    finished = run_kit(kit, environment(**machine))
    assert finished.returncode == 2 and hint in finished.stdout + finished.stderr
    assert not list(kit.glob("results/*_0.bin"))


def test_a_failure_brings_its_log_back(packed, kit, ran, tmp_path):
    """Then another container takes the device, and when it is free the run continues."""
    finished = run_kit(kit, environment(errors=[{"call": "aclmdlExecute", "nth": 3, "code": 507011}]))
    assert finished.returncode == 2 and "run.sh ends with code 2" in finished.stderr
    with tarfile.open(tmp_path / "kit_results.tar") as tar:
        assert b"error: ais_bench on device 0" in tar.extractfile("kit_results/log.txt").read()
    error = one_error(judged(packed, tmp_path / "kit_results.tar"))
    assert "not complete" in error and "run.sh ended with code 2" in error
    finished = run_kit(kit, environment(npu_smi={"error": -8020}))
    busy, = [line for line in finished.stdout.splitlines() if "-8020" in line]
    assert "another container holds the device. Stop that one, or give this one another device" in busy
    assert finished.returncode == 2 and "Run again, it continues" in finished.stderr
    assert ".om: kept" in done(run_kit(kit, environment()))
    assert_same_dumps(kit, ran)


def test_a_run_that_is_killed_continues(packed, kit, ran, tmp_path):
    trace = tmp_path / "trace"
    process = subprocess.Popen(["bash", str(kit / "run.sh")], cwd=tmp_path, stdout=subprocess.DEVNULL,
                               env=environment(trace=str(trace), slow={"aclmdlExecute": 0.3}))
    results = kit / "results" / NAME
    wait_for(lambda: len(list(results.glob("*_0.bin"))) >= 4)
    process.kill()
    process.wait()
    pids = {json.loads(line)["pid"] for line in trace.read_text().splitlines() if line.endswith("}")}
    wait_for(lambda: not any(map(alive, pids)))
    done(run_kit(kit, environment()))
    assert_same_dumps(kit, ran)


def test_a_run_that_is_told_to_end_leaves_nothing_running_and_no_results(kit, tmp_path):
    trace = tmp_path / "trace"
    process = subprocess.Popen(["bash", str(kit / "run.sh"), "--runner", "acl"], cwd=tmp_path,
                               stdout=subprocess.DEVNULL,
                               env=environment(trace=str(trace), slow={"aclmdlExecuteAsync": 60}))
    wait_for(lambda: trace.exists() and "aclrtMallocHost" in trace.read_text())
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    pids = {json.loads(line)["pid"] for line in trace.read_text().splitlines() if line.endswith("}")}
    wait_for(lambda: not any(map(alive, pids)))
    assert not (tmp_path / "kit_results.tar").exists()


@pytest.mark.parametrize("cann, code, hint", [(CANN, 0, "kept"), ("8.0.0", 2, f"cann was \"{CANN}\", now")])
def test_an_om_of_another_machine_is_for_the_same_cann(kit, ran, cann, code, hint):
    """On a server that has CANN's runtime and no atc."""
    for path in (ran / "models").glob("*.om*"):
        shutil.copy(path, kit / "models")
    env = environment(cann=cann)
    env["PATH"] = ":".join(folder for folder in env["PATH"].split(":") if not folder.endswith("emulator/bin"))
    env["PYTHONPATH"] = f"{kit / 'program'}:{env['PYTHONPATH']}"
    built = next(line for line in (kit / "run.sh").read_text().splitlines() if "ascend.atc" in line)
    finished = subprocess.run([sys.executable, *built.split()[2:]], cwd=kit, env=env, capture_output=True, text=True)
    assert finished.returncode == code and hint in finished.stdout + finished.stderr


def collect(kit: Path) -> Path:
    """What run.sh does at its end."""
    subprocess.run([sys.executable, "-m", "kit.server", "collect", SOC, "acl", "0"], cwd=kit, check=True,
                   env={**environment(), "PYTHONPATH": str(kit / "program")})
    return kit.parent / "kit_results.tar"


def test_results_of_another_kit(packed, ran, tmp_path):
    kit = Path(shutil.copytree(ran, tmp_path / "kit"))
    content = json.loads((kit / "kit.json").read_text())
    (kit / "kit.json").write_text(json.dumps({**content, "name": "another"}))
    say_again(kit, "kit.json")
    assert "which was not packed in" in one_error(judged(packed, collect(kit)))


def test_a_self_check_that_fails_stops_before_the_long_run(packed, kit, tmp_path):
    expected = json.loads((kit / "expected.json").read_text())
    for one in expected:
        one["places"] = (15 - np.array(one["places"])).tolist()
    (kit / "expected.json").write_text(json.dumps(expected))
    say_again(kit, "expected.json")
    finished = run_kit(kit, environment())
    assert finished.returncode == 1 and "the long run was not started" in finished.stdout
    assert not (kit / "results").exists() and (tmp_path / "kit_results.tar").exists()
    done(run_kit(kit, environment(), "--anyway"))


def test_results_that_differ_from_the_cpu(packed, ran, tmp_path):
    kit = Path(shutil.copytree(ran, tmp_path / "kit"))
    for path in (kit / "results" / NAME).glob("*_0.bin"):
        np.roll(np.fromfile(path, np.float32), 3).tofile(path)
    finished = judged(packed, collect(kit))
    assert finished.returncode == 1 and "NO (emulated)" in finished.stdout


@pytest.mark.parametrize("harm, hint", [
    (lambda path: path.write_bytes(path.read_bytes()[:-20000]), "cut off"),
    (lambda path: damage(path, tarfile.open(path).getmembers()[0].offset_data), "damaged"),
    (lambda path: path.write_bytes(b"no tar"), "not a tar file"),
    (lambda path: path.unlink(), "no such file"),
], ids=["cut off", "damaged", "no tar", "missing"])
def test_results_that_a_copy_has_changed(packed, ran, tmp_path, harm, hint):
    shutil.copy(ran.parent / "kit_results.tar", tmp_path / "r.tar")
    harm(tmp_path / "r.tar")
    error = one_error(judged(packed, tmp_path / "r.tar"))
    assert error.startswith(f"error: {tmp_path / 'r.tar'}: ") and hint in error


@pytest.mark.parametrize("member", [
    {"name": "kit_results/../../outside"}, {"name": "/kit_results/x"}, {"name": "other/x"},
    {"name": "kit_results/x", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    {"name": "kit_results/x", "type": tarfile.LNKTYPE, "linkname": "kit_results/y"},
    {"name": "kit_results/d", "type": tarfile.DIRTYPE}, {"name": "kit_results/f", "type": tarfile.FIFOTYPE},
    {"name": "kit_results"}, {"name": "kit_results/a\\b"}], ids=str)
def test_nothing_is_unpacked_outside_its_folder(tmp_path, member):
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        info = tarfile.TarInfo()
        for name, value in member.items():
            setattr(info, name, value)
        tar.addfile(info)
    with pytest.raises(UserError, match="expected plain files"):
        unpack_safely(tmp_path / "bad.tar", "kit_results", tmp_path / "inside" / "results")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.tar"]


def test_a_tar_that_is_cut_off_anywhere(tmp_path):
    """In a head, in a file, behind its last byte, or before SHA256SUMS."""
    write_tar(tmp_path / "whole.tar", "kit_results", {"a": b"x" * 700, "b": b"y" * 1500})
    whole = (tmp_path / "whole.tar").read_bytes()
    for size in [*range(0, 4200, 170), 1536, 4096]:  # the last file ends at 4236
        (tmp_path / "r.tar").write_bytes(whole[:size])
        with pytest.raises(UserError, match="r.tar: "):
            unpack_safely(tmp_path / "r.tar", "kit_results", tmp_path / f"{size}")
            read_sums(tmp_path / f"{size}", tmp_path / "r.tar")


def test_a_disk_that_is_too_small(ran):
    kit = server.kit_of(ran)
    with pytest.raises(UserError, match="this run needs .* GB. Make room"):
        server.check_disk(ran, {**kit, "people": 10 ** 12}, server.runs_of(kit, SOC))


@pytest.mark.parametrize("now", [0, 4e9])
def test_a_clock_that_is_wrong(monkeypatch, capsys, now):
    monkeypatch.setattr(time, "localtime", lambda: time.gmtime(now))
    server.check_clock()
    assert ("clock" in capsys.readouterr().err) == (now == 0)
    judge.check_clock(Path("r.tar"), now, time.time())
    assert "the server's clock said" in capsys.readouterr().err


@pytest.mark.parametrize("options, hint", [
    (["Ascend310"], "this kit is not for Ascend310"), (["--device", "x"], "--device is x"),
    (["--runner", "x"], "--runner x is not for"), (["--x"], "unknown option --x")])
def test_usage_of_run_sh(ran, options, hint):
    finished = run_kit(ran, environment(), *options)
    assert finished.returncode == 2 and hint in finished.stderr


@pytest.mark.parametrize("options, hint", [
    ([], "expected --target"), (["--target", "ncnn"], "a kit is for"), (["--target", "cpu-int8"], "--precision int8"),
    (["--target", "nonsense"], "unknown target"),
    (["--target", SOC, "--batch", "0"], "whole numbers"),
    (["--target", "cpu", "--precision", "fp16"], "is not for cpu"),
    (["--target", SOC, "--precision", "fp16", "--precision_mode", "allow_mix_precision"], "expected int8"),
    (["--judge", "r.tar", "--batch", "1"], "not with --judge"),
    (["--target", "Ascend310p3", "--demo"], "Did you mean Ascend310P3")])
def test_usage_of_pack(script, options, hint):
    assert hint in one_error(script("pack.py", *options))
