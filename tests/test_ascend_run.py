"""The whole job as a user types it, on an emulated card and on the CPU: the same keypoints, to the last digit."""
from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ascend_cases import alive, row, run, wait_for
from conftest import ROOT, done

from tests.emulator import environment

SOC = "Ascend310P3"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Run the script of a batch on eight rendered photographs with the demo's weights; all runs share the exports."""
    folder = tmp_path_factory.mktemp("job")
    for name in ("fastpose_small.pth", "yolov3_demo.weights"):
        shutil.copy(ROOT / "demo" / name, folder)
    done(run(environment(), "-m", "demo.render", "--output", folder / "data", "--images", 8))
    options = ["--dataroot", folder / "data", "--checkpoint", folder / "fastpose_small.pth", "--config",
               "configs/demo_fastpose.yaml", "--weights", folder / "yolov3_demo.weights", "--yolo_cfg",
               "configs/demo_yolov3_tiny.cfg", "--work", folder / "work"]

    def call(target: str, *more: object, batch: int = 4, start: bool = False, **machine: object):
        env = {**environment(**{"devices": 4, **machine}), "VIRTUAL_ENV": sys.prefix}
        command = (f"scripts/run_bs{batch}.sh", target, *options, *more)
        return subprocess.Popen(["bash", *map(str, command)], cwd=ROOT, env=env) if start else run(env, *command)

    call.results = folder / "work" / "results"
    return call


@pytest.fixture(scope="module")
def cpu(job):
    """batch -> keypoints on the CPU."""

    @functools.lru_cache(None)
    def keypoints_of(batch: int) -> bytes:
        done(job("cpu", batch=batch))
        return keypoints(job.results / f"cpu_bs{batch}_score")

    return keypoints_of


def keypoints(folder: Path) -> bytes:
    return (folder / "keypoints.json").read_bytes()


@pytest.mark.parametrize("batch, machine, options", [
    (16, {}, ["--runner", "ais_bench"]), (1, {}, ["--runner", "acl"]), (64, {}, []),
    (4, {"ais_bench": "old"}, ["--device", "0,1,2,3"]), (4, {}, ["--runner", "acl", "--device", "0,1,2,3"]),
    (4, {}, ["--gears", "1,2,4", "--device", "1,3"]), row(5, 16, {"ais_bench": None}, ["--device", "2"])])
def test_a_card_gives_the_keypoints_of_the_cpu(job, cpu, batch, machine, options):
    """To the last digit; where ais_bench is absent by pyACL."""
    output = done(job(SOC, *options, batch=batch, **machine))
    assert keypoints(job.results / f"{SOC}_bs{batch}_score") == cpu(batch)
    cells = [cell.strip() for cell in output.strip().splitlines()[-1].strip("|").split(" | ")]
    assert cells[0].endswith(".om") and cells[1] == str(batch)
    assert all(" (emulated" in cell for cell in cells[2:])
    assert all(float(cell.split()[0]) > 0 for cell in cells[-2:])  # in the model, and from bins to dumps
    assert output.index("set_env.sh") < output.index("ATC") if "ATC" in output else "kept" in output  # doctor first
    assert ("runner: acl" in output) == ("acl" in options or machine == {"ais_bench": None})


def test_a_script_that_is_told_to_end_leaves_nothing_running(job, tmp_path):
    """Bash alone gets the signal, as from `kill` or a scheduler, while two devices are at work."""
    trace = tmp_path / "trace"

    def workers() -> set:
        pids = {json.loads(line)["pid"] for line in trace.read_text().splitlines() if line.endswith("}")}
        return set(filter(alive, pids))

    script = job(SOC, "--runner", "ais_bench", "--device", "0,1", batch=8, start=True, trace=str(trace),
                 slow={"aclmdlExecute": 60})
    wait_for(lambda: trace.exists() and len(workers()) == 3)  # the stage, and an ais_bench a device
    left = workers()
    script.terminate()
    assert script.wait(30) == 143
    wait_for(lambda: not any(map(alive, left)))


def test_a_machine_that_is_ill_is_told_before_anything_is_done(job):
    finished = job(SOC, errors=[{"call": "aclrtSetDevice", "code": 507033}])
    assert finished.returncode == 2 and "driver, firmware and CANN" in finished.stdout
    assert "preprocess" not in finished.stderr


@pytest.mark.parametrize("target, hint", [("ascend310p3", "Did you mean Ascend310P3?"), ("Ascend910B", "Ascend910B1"),
                                          ("Ascend310", "is asked for")])
def test_a_target_that_is_not_this_card(job, target, hint):
    finished = job(target)
    assert finished.returncode == 2 and hint in finished.stdout


@pytest.mark.parametrize("options, hint", [(["--runner", "x"], "ais_bench, acl"),
                                           (["--device"], "expected one argument")])
def test_usage(job, options, hint):
    finished = job(SOC, *options)
    assert finished.returncode == 2 and hint in finished.stderr
