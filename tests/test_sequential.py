"""How many photos are enough: the looks, the answers, and how often they are wrong."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, done, make_coco, one_error

sys.path.insert(0, str(ROOT / "benchmarks"))
from enough_photos import at_difference, campaign, make_population, true_difference  # noqa: E402

from pose.bootstrap import t_quantile  # noqa: E402
from pose.parts import deal  # noqa: E402
from pose.sequential import MARGIN, decide, half_width, look_sizes  # noqa: E402


def test_looks_are_at_shares_of_all_photos_and_at_all():
    assert look_sizes(5000) == [625, 1250, 1875, 2500, 3750, 5000]
    assert look_sizes(400) == [100, 150, 200, 300, 400] and look_sizes(60) == [60]


@pytest.mark.parametrize("probability, freedom, expected", [  # tables of Student's distribution
    (0.975, 20, 2.0860), (0.99, 40, 2.4233), (0.975, 149, 1.9760), (0.995, 30, 2.7500)])
def test_student_s_quantile(probability, freedom, expected):
    assert t_quantile(probability, freedom) == pytest.approx(expected, abs=1e-3)


def test_the_interval_shrinks_to_nothing_when_all_photos_are_seen():
    widths = [half_width(0.001, photos, 5000) for photos in look_sizes(5000)]
    assert widths == sorted(widths, reverse=True) and widths[-1] == 0 < widths[-2]


def test_photos_that_were_never_seen_may_be_lost():
    """Of 625 photos without any difference nothing follows for 5000: 1 in 200 may be lost, 0.5 % of AP."""
    assert half_width(0.0, 625, 5000) > MARGIN > half_width(0.0, 2500, 5000)


def test_the_same_results_are_within_before_all_photos_are_seen():
    assert campaign(make_population(1000, 0, 0, 0, 0), 0) == (True, 750)


def test_results_far_apart_are_told_early():
    population = at_difference(6 * MARGIN, lambda drop: make_population(1000, 8, 0.01, drop, 0), 0.3)
    answers = [campaign(population, seed) for seed in range(3)]
    assert not any(within for within, _ in answers) and all(used < 1000 for _, used in answers)


def test_beyond_the_margin_at_most_one_in_twenty_is_called_within():
    """24 campaigns of a population just beyond it, where errors are likeliest: 6 errors have a chance of 0.1 %."""
    population = at_difference(1.02 * MARGIN, lambda drop: make_population(400, 1, 0.002, drop, 0), 0.1)
    assert true_difference(population) < -MARGIN
    assert sum(campaign(population, seed)[0] for seed in range(24)) < 6


def test_all_photos_give_the_exact_answer():
    population = make_population(300, 3, 0.01, 0.004, 0)
    decision = decide(*population.of(np.arange(300)), of=300)
    assert decision.low == decision.high == decision.difference == pytest.approx(true_difference(population))
    assert decision.within == (abs(decision.difference) <= MARGIN)


@pytest.fixture()
def dealt(tmp_path) -> Path:
    root = make_coco(tmp_path / "data", photographs=140, people_each=1)
    deal(root, tmp_path / "work", root / "detections.json", 0)
    deal(root, tmp_path / "work", root / "detections.json", 0)  # again, over the first
    return tmp_path


def test_parts_are_data_roots_that_share_out_the_photos_at_random(dealt):
    parts = json.loads((dealt / "work/parts.json").read_text())
    assert [len(ids) for ids in parts] == [105, 35] and len({image for ids in parts for image in ids}) == 140
    assert parts[0] != sorted(parts[0])
    for number, ids in enumerate(parts):
        root = dealt / "work" / f"part{number}"
        coco = json.loads((root / "annotations/person_keypoints_val2017.json").read_text())
        boxes = json.loads((root / "detections.json").read_text())
        assert {image["id"] for image in coco["images"]} == set(ids) == {box["image_id"] for box in boxes}
        assert {person["image_id"] for person in coco["annotations"]} == set(ids)
        links = sorted((root / "val2017").iterdir())
        assert [path.name for path in links] == [f"{image:012d}.jpg" for image in sorted(ids)]
        assert all(path.resolve().is_file() for path in links)


def test_parts_together_decide_as_pycocotools_scores(dealt, script):
    """Every person where it is annotated on one side, a few lost on the other; the exact APs after all parts."""
    people = json.loads((dealt / "data/annotations/person_keypoints_val2017.json").read_text())["annotations"]
    parts = json.loads((dealt / "work/parts.json").read_text())
    files = {side: [dealt / f"{side}{number}.json" for number in range(2)] for side in "ab"}
    for side, lost in (("a", 0), ("b", 14)):
        for path, ids in zip(files[side], parts):
            path.write_text(json.dumps([{**{key: one[key] for key in ("image_id", "category_id", "bbox", "keypoints")},
                                         "score": 0.5} for one in people[lost:] if one["image_id"] in ids]))
    command = ["-m", "pose.parts", "decide", dealt / "data", dealt / "work", "--reference", *files["a"], "--other",
               *files["b"], "--output", dealt / "decision.json"]
    done(subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=120))
    decision = json.loads((dealt / "decision.json").read_text())
    assert decision["a"] == pytest.approx(1) and decision["b"] == pytest.approx(91 / 101)  # recall 0.9 of 101 points
    assert decision["within"] is False and decision["photos"] == decision["of"] == 140


def test_run_quick_on_the_demo(script, tmp_path):
    """60 photos are too few to look early, so all are used and the answer is exact."""
    pytest.importorskip("torch")
    finished = script("run.py", "--targets", "cpu", "--demo", "--quick", "--quiet", "--gt_boxes", "--no_flip", "--work",
                      tmp_path / "work")
    assert "| 60 of 60 |" in done(finished) and "exact: all photos | yes |" in finished.stdout
    assert (tmp_path / "work/validation.md").read_text() in finished.stdout


def test_options_that_do_not_go_together(script, tmp_path):
    for option, value in (("--limit", 5), ("--images", tmp_path), ("--annotations", tmp_path), ("--model", tmp_path)):
        finished = script("run.py", "--targets", "cpu", "--quick", option, value)
        assert f"{option} do not go together" in one_error(finished)
