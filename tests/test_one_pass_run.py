"""The entire job with --one_pass on the emulated machines: the result of the CPU, from photos on."""
from __future__ import annotations

import shutil
import sys

import pytest
from ascend_cases import run
from conftest import ROOT, done, read_score

from tests import emulator, tensorrt_emulator

pytest.importorskip("onnxruntime")
pytest.importorskip("torch", reason="checkpoints are exported with torch")

ENVIRONMENTS = {"Ascend310P3": emulator.environment, "gpu": tensorrt_emulator.environment}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Options of three rendered photos and the demo's weights; both machines share the exports."""
    folder = tmp_path_factory.mktemp("job")
    for name in ("fastpose_small.pth", "yolov3_demo.weights"):
        shutil.copy(ROOT / "demo" / name, folder)
    environment = {**emulator.environment(), "VIRTUAL_ENV": sys.prefix}
    done(run(environment, "-m", "demo.render", "--output", folder / "data", "--images", 3))
    return ["--one_pass", "--dataroot", folder / "data", "--checkpoint", folder / "fastpose_small.pth", "--config",
            "configs/demo_fastpose.yaml", "--weights", folder / "yolov3_demo.weights", "--yolo_cfg",
            "configs/demo_yolov3_tiny.cfg", "--work", folder / "work"]


@pytest.mark.parametrize("target", ENVIRONMENTS)
def test_the_result_is_that_of_the_cpu(job, target):
    environment = {**ENVIRONMENTS[target](), "VIRTUAL_ENV": sys.prefix}
    output = done(run(environment, "scripts/run_bs4.sh", "cpu", target, *job))
    results = job[-1] / "results"
    ours, theirs = (read_score(results / f"{name}_bs4_one_pass_score") for name in ("cpu", target))
    assert ours.results == theirs.results and ours.metrics == theirs.metrics and theirs.emulated
    assert "people/s, bins to dumps, one pass" in output
    dumps = list((results / f"{target}_bs4_one_pass").glob("*.bin"))
    assert len(dumps) == theirs.people["boxes"] and {dump.stat().st_size for dump in dumps} == {17 * 3 * 4}
    assert not (results / f"{target}_bs4_one_pass_flip").exists()
