"""Scores, intervals and tensor metrics against programs of others: hotcoco, and msaccucmp of mindstudio-probe.

    python3 -m pip install hotcoco==1.3.0
    python3 -m pip install --no-deps mindstudio-probe==26.2.0
"""
from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_coco
from test_compare_score import made_results, matched

from pose.annotations import annotations_path
from pose.bootstrap import coco_numbers, difference_intervals, weighted_numbers
from pose.metrics import tensor_metrics, tensor_sums
from pose.score import METRICS

PHOTOS, REPLICATES = 60, 1000


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A data root, two results of it, and hotcoco's evaluation of each."""
    hotcoco = pytest.importorskip("hotcoco", reason="needs hotcoco from PyPI")
    folder = tmp_path_factory.mktemp("judged")
    root = make_coco(folder / "data", PHOTOS, 5, seed=1)
    results = [made_results(root, seed, spread) for seed, spread in ((0, 12), (1, 9))]
    return root, results, [evaluate(hotcoco, root, one, folder / "results.json") for one in results]


def evaluate(hotcoco: Any, root: Path, results: list, file: Path) -> Any:
    file.write_text(json.dumps(results))
    truth = hotcoco.COCO(str(annotations_path(root)))
    evaluation = hotcoco.COCOeval(truth, truth.load_res(str(file)), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def test_the_ten_numbers_are_those_of_hotcoco(judged):
    root, results, evaluations = judged
    for one, evaluation in zip(results, evaluations):
        assert coco_numbers(matched(root, one)) == pytest.approx(dict(zip(METRICS, evaluation.stats)), abs=1e-6)


def test_the_interval_is_that_of_hotcoco_where_a_photo_counts_as_often_as_it_is_drawn(judged):
    """hotcoco 1.3.0 counts a photo once however often it is drawn, so that its interval is too narrow by
    sqrt(0.368 / 0.632) = 0.76 of a bootstrap's. Counted so, the ends are the same but for the random numbers."""
    root, results, evaluations = judged
    theirs = pytest.importorskip("hotcoco").compare(*evaluations, n_bootstrap=REPLICATES, seed=1, confidence=0.95)["ci"]
    both = [matched(root, one) for one in results]
    drawn = np.random.default_rng(0).integers(PHOTOS, size=(REPLICATES, PHOTOS))
    often = np.stack([np.bincount(row, minlength=PHOTOS) for row in drawn]).astype(np.float32)
    counted_once, counted = (
        np.percentile(weighted_numbers(both[1], weights) - weighted_numbers(both[0], weights), (2.5, 97.5), axis=0)
        for weights in (np.minimum(often, 1), often))
    for name in ("AP", "AP50", "AP75", "AR", "AR50", "AR75"):
        low, high = theirs[name]["lower"], theirs[name]["upper"]
        assert counted_once[:, METRICS.index(name)] == pytest.approx((low, high), abs=0.15 * (high - low)), name
    low, high = theirs["AP"]["lower"], theirs["AP"]["upper"]
    assert (high - low) / np.ptp(counted[:, 0]) == pytest.approx(0.76, abs=0.12)
    ours = difference_intervals(*both, REPLICATES, 0, 2)["AP"]
    assert ours[0] < low and high < ours[1]


def test_tensor_metrics_are_those_of_msaccucmp(tmp_path):
    """Its program, which no package needs but numpy, on the same values; it prints six digits after the point."""
    package = importlib.util.find_spec("msprobe")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs mindstudio-probe from PyPI")
    a = np.random.default_rng(0).standard_normal((2, 17, 16, 12)).astype(np.float32)
    for power in (1e-3, 1.0):
        b = a + np.float32(power) * np.random.default_rng(1).standard_normal(a.shape).astype(np.float32)
        theirs = msaccucmp(Path(package.submodule_search_locations[0]) / "msaccucmp", a, b, tmp_path / f"{power}")
        ours = tensor_metrics(tensor_sums(a, b, 1e-3, 1e-3), 16 * 12)
        ours.pop("Mismatched")
        assert {name: theirs[name] for name in ours} == pytest.approx(ours, abs=1e-6)


def msaccucmp(program: Path, a: np.ndarray, b: np.ndarray, folder: Path) -> dict:
    """What it measures of b against a by name."""
    folder.mkdir()
    np.save(folder / "a.npy", a)
    np.save(folder / "b.npy", b)
    (folder / "out").mkdir()
    subprocess.run([sys.executable, program / "msaccucmp.py", "file_compare", "-m", folder / "b.npy", "-g",
                    folder / "a.npy", "-out", folder / "out"], check=True, capture_output=True)
    lines = next((folder / "out").glob("file_result_*.txt")).read_text().splitlines()
    return {name: float(value) for name, value in (line.split(": ") for line in lines)}
