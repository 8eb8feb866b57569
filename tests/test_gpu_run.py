"""The scripts for an NVIDIA GPU as a user types them: on the emulated one the keypoints of the CPU, and without one a
line."""
from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from ascend_cases import run
from conftest import ROOT, done, one_error

from tests.tensorrt_emulator import environment

pytest.importorskip("onnxruntime")
pytest.importorskip("torch", reason="checkpoints are exported with torch")

BARE = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
DEMO = ("--demo",)
SCORES = ("AP", "AP50", "AR")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Run the script of batch 4 on a few rendered photographs with the demo's weights; all runs share the exports."""
    folder = tmp_path_factory.mktemp("job")
    for name in ("fastpose_small.pth", "yolov3_demo.weights"):
        shutil.copy(ROOT / "demo" / name, folder)
    done(run(BARE, "-m", "demo.render", "--output", folder / "data", "--images", 3))
    options = ["--dataroot", folder / "data", "--checkpoint", folder / "fastpose_small.pth", "--config",
               "configs/demo_fastpose.yaml", "--weights", folder / "yolov3_demo.weights", "--yolo_cfg",
               "configs/demo_yolov3_tiny.cfg", "--work", folder / "work"]

    def call(target: str, *more: object, **config: object):
        return run(environment(BARE, **config), "scripts/run_bs4.sh", target, *options, *more)

    call.results = folder / "work" / "results"
    return call


def row(output: str) -> dict:
    header, _, values = output.strip().splitlines()[-3:]
    return dict(zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in (header, values))))


@pytest.fixture(scope="module")
def cpu(job) -> dict:
    return row(done(job("cpu")))


@pytest.mark.parametrize("options, config", [
    (["--precision", "fp32"], {"tensorrt": "8.6.1"}), ([], {"tensorrt": "10.13.3"}),
    (["--precision", "fp32", "--device", "0,1"], {"tensorrt": "11.4.0", "devices": 2})], ids=str)
def test_tensorrt_gives_the_row_of_the_cpu(job, cpu, options, config):
    """The emulator runs float16 in float32."""
    came = row(done(job("gpu", *options, **config)))
    precision = options[1] if options else "fp16"
    assert came.pop("model").endswith(f"_bs4_{precision}.engine")
    assert came["batch"] == cpu["batch"]
    assert {name: came[name] for name in SCORES} == {name: f"{cpu[name]} (emulated)" for name in SCORES}
    keypoints = [(job.results / f"{target}_bs4_score" / "keypoints.json").read_bytes() for target in ("cpu", "gpu")]
    assert keypoints[0] == keypoints[1]
    settings = json.loads((job.results / "gpu_bs4" / "settings.json").read_text())
    assert settings["backend"] == "tensorrt" and settings["precision"] == precision


@pytest.mark.parametrize("tensorrt", ["10.13.3", "11.4.0"])
def test_int8_is_that_of_the_graph(job, cpu, tensorrt):
    photos = job.results.parent.parent / "data" / "val2017"
    came = row(done(job("gpu", "--precision", "int8", "--calibration", photos, tensorrt=tensorrt)))
    assert came["model"].endswith("_int8_tensorrt_int8.engine")
    assert float(came["AP"].split()[0]) == pytest.approx(float(cpu["AP"]), abs=0.05)
    settings = json.loads((job.results / "gpu_bs4" / "settings.json").read_text())
    assert settings["backend"] == "tensorrt" and settings["precision"] == "int8"
    assert settings["tensorrt"] == tensorrt
    keypoints = [(job.results / f"{target}_bs4_score" / "keypoints.json").read_bytes() for target in ("cpu", "gpu")]
    assert keypoints[0] != keypoints[1]


def test_detections_are_those_of_the_engine(job, cpu):
    done(job("gpu", "--precision", "fp32"))
    settings = json.loads((job.results.parent / "detections_gpu.json.settings.json").read_text())
    assert settings["backend"] == "tensorrt" and settings["device"]["precision"] == "fp32"


@pytest.mark.parametrize("runner, config, reason", [
    ((), {"devices": 0}, "cudaErrorInsufficientDriver"), (("--runner", "pytorch"), {}, "CUDA")])
def test_a_machine_without_a_gpu_is_told_in_one_line(job, runner, config, reason):
    finished = job("gpu", *runner, **config)
    error = one_error(finished)
    assert reason in error and "cpu needs none" in error


def test_without_tensorrt_it_says_why_it_takes_pytorch():
    finished = run(BARE, "scripts/run_bs16.sh", "gpu", *DEMO)
    assert "no NVIDIA GPU" in one_error(finished)
    assert "runner: pytorch, because Python has no tensorrt and no cuda-python" in finished.stdout


@pytest.mark.parametrize("options, message", [
    (["--runner", "acl"], "gpu: tensorrt, pytorch"), (["--precision", "fp8"], "gpu with tensorrt: fp32, fp16, int8"),
    (["--runner", "tensorrt", "--precision", "bf16"], "gpu with pytorch: fp32, fp16, bf16")])
def test_usage(job, options, message):
    finished = job("gpu", *options)
    assert finished.returncode == 2 and message in finished.stderr


def test_the_sweep_compares_before_it_tells_a_ratio(job, tmp_path):
    """On the emulated GPU, where PyTorch has to stay on the CPU."""
    pytest.importorskip("matplotlib")
    data = job.results.parent.parent
    finished = run(environment(BARE), "scripts/run_trt.sh", "--sweep", "--dataroot", data / "data", "--checkpoint",
                   data / "fastpose_small.pth", "--config", "configs/demo_fastpose.yaml", "--weights",
                   data / "yolov3_demo.weights", "--yolo_cfg", "configs/demo_yolov3_tiny.cfg", "--work", tmp_path,
                   "--batch", "1,2", "--photographs", 2, "--repeat", 1, "--device", "cpu")
    done(finished)
    for name, unit in (("fastpose_small", "crops"), ("yolov3_demo", "photos")):
        report = json.loads((tmp_path / name / "bench.json").read_text())
        assert report["unit"] == unit and [row["batch"] for row in report["rows"]] == [1] * 4 + [2] * 4
        assert [row["gate"] for row in report["rows"][:4]] == ["fp32", "fp16", "fp32", "fp16"]
        assert all(row["ratio"] for row in report["rows"])
    assert finished.stdout.count("| ratio |") == 2


def test_the_sweep_needs_a_gpu():
    finished = run(BARE, "scripts/run_trt.sh", "--sweep", *DEMO)
    message = one_error(finished)
    assert finished.stdout == ""
    assert "no NVIDIA GPU can be used with tensorrt at fp16" in message and "pip install tensorrt" in message
