"""The validation table, as its script makes it from a few rendered photographs."""
from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from ascend_cases import run
from conftest import ROOT, done, read_score

pytest.importorskip("torch")
ENVIRONMENT = {**os.environ, "VIRTUAL_ENV": sys.prefix}


@pytest.fixture(scope="module")
def validated(tmp_path_factory) -> Path:
    """The work folder of validate.sh for the CPU at batches 1 and 4, with the demo's weights."""
    folder = tmp_path_factory.mktemp("validation")
    done(run(ENVIRONMENT, "-m", "demo.render", "--output", folder / "data", "--images", 3))
    for name in ("fastpose_small.pth", "yolov3_demo.weights"):
        shutil.copy(ROOT / "demo" / name, folder)
    finished = run(ENVIRONMENT, "scripts/validate.sh", "cpu", "--batch", "1 4", "--dataroot", folder / "data",
                   "--checkpoint", folder / "fastpose_small.pth", "--config", "configs/demo_fastpose.yaml", "--weights",
                   folder / "yolov3_demo.weights", "--yolo_cfg", "configs/demo_yolov3_tiny.cfg", "--work",
                   folder / "work")
    assert (folder / "work" / "validation.md").read_text() in done(finished)
    return folder / "work"


def cells(line: str) -> list:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_table_has_the_score_of_each_and_the_verdicts(validated):
    head, _, *rows = (validated / "validation.md").read_text().strip().splitlines()
    assert cells(head) == ["model", "batch", "pytorch AP", "cpu AP", "pytorch crops/s", "cpu crops/s", "cpu agrees"]
    for batch, row in zip((1, 4), rows):
        values = dict(zip(cells(head), cells(row)))
        assert values["model"] == "fastpose_small" and values["batch"] == str(batch) and values["cpu agrees"] == "yes"
        for target in ("pytorch", "cpu"):
            score = read_score(validated / "results" / f"{target}_bs{batch}_score")
            assert values[f"{target} AP"] == f"{score.metrics['AP']:.4f}"
            assert values[f"{target} crops/s"] == f"{score.speed['crops_per_second']:.1f}"
        assert "cpu" in (validated / f"validation_cpu_bs{batch}.html").read_text()
    settings = [json.loads((validated / "results" / f"{target}_bs4" / "settings.json").read_text())
                for target in ("pytorch", "cpu")]
    assert settings[0]["bins"] == settings[1]["bins"] and settings[0]["backend"] == "pytorch"


def test_a_device_that_differs_is_said_and_is_the_exit_code(validated):
    path = validated / "results" / "cpu_bs4_verdict.json"
    content = path.read_text()
    path.write_text(json.dumps({**json.loads(content), "agree": False}))
    finished = run(ENVIRONMENT, "-m", "comparison.validation", validated / "results", "cpu", "--batch", 1, 4)
    path.write_text(content)
    assert finished.returncode == 1
    assert [cells(row)[-1] for row in finished.stdout.strip().splitlines()[2:]] == ["yes", "NO"]


@pytest.mark.parametrize("arguments, hint", [([], "targets first"), (["--demo"], "targets first"),
                                             (["cpu", "--batch"], "needs a value"), (["abacus"], "unknown target")])
def test_usage(arguments, hint):
    finished = run(ENVIRONMENT, "scripts/validate.sh", *arguments)
    assert finished.returncode == 2 and hint in finished.stderr
