"""int8 from photos to a score: run.py makes the file of each target and runs it, on the emulated card too."""
from __future__ import annotations

import json

import numpy as np
import pytest
from ascend_cases import run
from conftest import bins_in, done, dumps_in, patch_heatmaps

from tests.emulator import environment

SHAPE = (17, 16, 12)


@pytest.fixture(scope="module")
def finished(coco, prepared, small_cfg, small_model, tmp_path_factory):
    """The work folder of one run on a CPU and on the emulated card, of a network that was given."""
    pytest.importorskip("onnxruntime")
    work = tmp_path_factory.mktemp("int8") / "work"
    output = done(run(environment(), "run.py", "--targets", "cpu", "cpu-int8", "Ascend310P3-int8", "--batch", 4,
                      "--model", small_model, "--cfg", small_cfg, "--dataroot", coco, "--gt_boxes", "--no_flip",
                      "--calibration", prepared / "prep_data", "--work", work))
    return work, output


def test_calibration_is_named(finished, prepared):
    assert f"int8 is calibrated on {prepared / 'prep_data'}" in finished[1]


@pytest.mark.parametrize("target", ["cpu-int8", "Ascend310P3-int8"])
def test_int8_is_what_runs_and_is_near_float32(finished, target):
    dumps = finished[0] / "results" / f"{target}_bs4"
    assert json.loads((dumps / "settings.json").read_text())["precision"] == "int8"
    came = dumps_in(dumps, SHAPE).astype(np.float64)
    expected = patch_heatmaps(bins_in(finished[0] / "prep_data", (3, 64, 48)))
    assert 1e-4 < np.abs(came - expected).max() / np.abs(expected).max() < 0.03


def test_each_has_its_row(finished):
    rows = [line for line in finished[1].splitlines() if line.startswith("| cpu") or line.startswith("| Ascend")]
    assert [row.split(" | ")[0] for row in rows] == ["| cpu", "| cpu-int8", "| Ascend310P3-int8"]
