"""What all stages take: --version and --quiet; and which packages run.py asks for."""
from __future__ import annotations

import importlib
import os

import pytest
from conftest import ROOT

from contract.progress import Progress
from contract.stage import QUIET
from contract.version import VERSION
from jobs.arguments import parse_args, requirements_of

STAGES = {"detect": [], "preprocess": [], "pth2onnx": ["a.yaml", "a.pth", "a.onnx"], "infer": [], "postprocess": [],
          "compare": [], "compare_layers": [], "bench": ["--run", "pytorch:a.pth"], "predict": [], "run": [],
          "ascend.atc": [], "ascend.ais_bench": [], "backends.tensorrt.build": ["a.onnx"], "detection.bins": ["a", "b"],
          "detection.export": ["a.cfg", "a.weights", "a.onnx"], "pose.crop_bins": ["a", "b"]}


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_says_its_version(name, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(name).parse_args(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out.split()[-1] == VERSION


@pytest.mark.parametrize("name", [name for name, needed in STAGES.items() if needed])
def test_quiet_turns_bars_off_here_and_in_processes_that_are_started(name, monkeypatch):
    monkeypatch.setenv(QUIET, "")
    importlib.import_module(name).parse_args([*STAGES[name], "--quiet"])
    assert os.environ[QUIET] == "1" and Progress(range(3)).disable


ONNX = ["--model", "a.onnx"]


@pytest.mark.parametrize("arguments, file", [
    (["--targets", "cpu"], "requirements.txt"),
    (["--targets", "cpu", *ONNX], "requirements-no-torch.txt"),
    (["--targets", "Ascend310P3", *ONNX], "requirements.txt"),  # the detector is exported
    (["--targets", "Ascend310P3", *ONNX, "--gt_boxes"], "requirements-no-torch.txt"),
    (["--targets", "Ascend310P3", *ONNX, "--detections", "a.json"], "requirements-no-torch.txt"),
    (["--targets", "Ascend310P3", *ONNX, "--detector_model", "a.om"], "requirements-no-torch.txt"),
    (["--targets", "Ascend310P3", *ONNX, "--boxes", "annotated", "detected"], "requirements.txt"),
    (["--targets", "cpu", "pytorch", *ONNX], "requirements.txt"),
    (["--targets", "gpu", "--runner", "pytorch", *ONNX, "--gt_boxes"], "requirements.txt"),
    (["--sweep"], "requirements-bench.txt"),
])
def test_torch_is_installed_where_it_is_needed(arguments, file):
    assert requirements_of(parse_args(arguments)) == file and (ROOT / file).exists()
