"""The weighted COCO numbers against pycocotools, and what the bootstrap interval promises."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_coco

from pose.annotations import annotations_path, load_annotations
from pose.bootstrap import coco_numbers, difference_intervals, t_quantile, weighted_numbers
from pose.matching import AREAS, THRESHOLDS, Matches, load_truth, match_results
from pose.score import METRICS, score_keypoints

PHOTOGRAPHS = 14


@pytest.fixture(scope="module")
def crowded(tmp_path_factory) -> Path:
    """A data root with what COCO's rules are about: crowds, people without labels, three sizes, empty photographs."""
    root = make_coco(tmp_path_factory.mktemp("crowded") / "data", PHOTOGRAPHS, 5, seed=1)
    content = json.loads(annotations_path(root).read_text())
    rng = np.random.default_rng(2)
    for number, person in enumerate(content["annotations"]):
        person["area"] = float(rng.choice([500, 3000, 20000]))
        joints = np.reshape(person["keypoints"], (17, 3))
        joints[rng.random(17) < 0.3] = 0
        if number % 7 == 0:
            joints[:] = 0
        person.update(iscrowd=int(number % 11 == 0), keypoints=joints.ravel().tolist(),
                      num_keypoints=int((joints[:, 2] > 0).sum()))
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] != 3]
    annotations_path(root).write_text(json.dumps(content))
    return root


def made_results(root: Path, seed: int, spread: float) -> list:
    """Two results near each annotated person, joints off by up to `spread` pixels, scores with many ties."""
    rng = np.random.default_rng(seed)
    results = []
    for person in load_annotations(root).people:
        for _ in range(2):
            joints = np.reshape(person["keypoints"], (17, 3)).astype(float)
            joints[:, :2] += rng.normal(0, rng.uniform(0, spread), (17, 2))
            results.append({"image_id": person["image_id"], "category_id": 1, "score": round(rng.random(), 1),
                            "bbox": [0, 0, float(rng.choice([20, 60, 120])), float(rng.choice([20, 60, 120]))],
                            "keypoints": joints.ravel().tolist()})
    first = results[0]["image_id"]  # more than the 20 that count
    return results + [{**results[0], "score": round(rng.random(), 2)} for _ in range(25)] + [
        {**results[1], "image_id": 3 if first != 3 else 14}]


def matched(root: Path, results: list, images=None) -> Matches:
    return match_results(load_truth(load_annotations(root), images), results)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("images", [None, [14, 25, 36, 47]])
def test_the_ten_numbers_are_those_of_pycocotools(crowded, seed, images):
    results = made_results(crowded, seed, 12)
    ours, theirs = coco_numbers(matched(crowded, results, images)), score_keypoints(crowded, results, images)
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert 0.05 < theirs["AP"] < 0.95


def test_real_results_get_pycocotools_numbers(shared):
    results = json.loads((shared / "golden" / "keypoints_pre_nms.json").read_text())
    results = results if isinstance(results, list) else results["results"]
    root = shared / "data" / "coco_mini"
    assert coco_numbers(matched(root, results)) == pytest.approx(score_keypoints(root, results, None), abs=1e-12)


def test_nothing_to_be_found_is_pycocotools_minus_one(crowded):
    results = made_results(crowded, 0, 12)
    assert coco_numbers(matched(crowded, results, [3])) == pytest.approx(score_keypoints(crowded, results, [3]))


def test_a_weight_is_as_good_as_copies_of_the_photograph(crowded, tmp_path):
    """Photographs drawn 0, 1, 2 or 3 times score as a data set in which they are copied so often."""
    results = made_results(crowded, 5, 12)
    for place, person in enumerate(np.random.default_rng(1).permutation(results).tolist()):
        person["score"] = place / len(results)  # of equal scores, copies would come in another order
    content = load_annotations(crowded).as_coco()
    weights = np.random.default_rng(0).integers(0, 4, PHOTOGRAPHS)
    copies = {image["id"]: [10 * image["id"] + copy for copy in range(weight)]
              for image, weight in zip(sorted(content["images"], key=lambda image: image["id"]), weights.tolist())}
    copied = {"categories": content["categories"],
              "images": [{**image, "id": new} for image in content["images"] for new in copies[image["id"]]],
              "annotations": [{**person, "image_id": new, "id": new * 1000 + person["id"]}
                              for person in content["annotations"] for new in copies[person["image_id"]]]}
    annotations_path(tmp_path).parent.mkdir()
    annotations_path(tmp_path).write_text(json.dumps(copied))
    expected = score_keypoints(tmp_path, [{**person, "image_id": new} for person in results
                                          for new in copies[person["image_id"]]], None)
    weighted = weighted_numbers(matched(crowded, results), np.stack([weights, np.ones(PHOTOGRAPHS)]))
    np.testing.assert_allclose(weighted[0], [expected[name] for name in METRICS], atol=1e-12)
    assert weighted[1, 0] == pytest.approx(score_keypoints(crowded, results, None)["AP"], abs=1e-12)


def test_results_that_are_the_same_have_no_interval(crowded):
    same = matched(crowded, made_results(crowded, 0, 12))
    assert all(interval == [0, 0] for interval in difference_intervals(same, same, 50, 0, 2).values())


def test_the_interval_repeats_with_its_seed_whatever_the_threads(crowded):
    a, b = (matched(crowded, made_results(crowded, seed, 12)) for seed in (0, 1))
    first = difference_intervals(a, b, 45, 7, 1)
    assert first == difference_intervals(a, b, 45, 7, 3) != difference_intervals(a, b, 45, 8, 1)


def drawn(photographs: np.ndarray, hit: np.ndarray) -> Matches:
    """One result of descending score on each photograph, which finds its one annotation or does not."""
    shape = (len(AREAS), len(THRESHOLDS), len(photographs))
    return Matches(np.arange(len(photographs)), np.broadcast_to(hit[:, photographs], shape),
                   np.ones(shape, bool), np.ones((len(AREAS), len(photographs))))


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    """A population of 20,000 photographs whose true difference is known; samples of 120 are drawn from it 80 times.

    95 % of 80 is 76; with a standard deviation of 2 less than 70 would be 3 of them off.
    """
    rng = np.random.default_rng(0)
    hard = rng.random(20000)  # both results find the same photographs hard
    levels = np.linspace(0.45, 0.15, len(THRESHOLDS))[:, None]
    hits = [hard + rng.normal(0, 0.1, hard.shape) > levels + extra for extra in (0.3, 0.36)]
    everything = np.arange(len(hard))
    true = [coco_numbers(drawn(everything, hit))["AP"] for hit in hits]
    covered, widths, differences = 0, [], []
    for _ in range(80):
        sample = rng.choice(len(hard), 120, replace=False)
        pair = [drawn(sample, hit) for hit in hits]
        low, high = difference_intervals(*pair, 100, int(rng.integers(1 << 30)), 2)["AP"]
        covered += low <= true[1] - true[0] <= high
        widths.append(high - low)
        differences.append(coco_numbers(pair[1])["AP"] - coco_numbers(pair[0])["AP"])
    assert 70 <= covered
    assert 0.75 < np.mean(widths) / (2 * 1.96 * np.std(differences)) < 1.33  # and is no wider than it need be


@pytest.mark.parametrize("probability, freedom, expected", [  # tables of Student's distribution
    (0.975, 20, 2.0860), (0.99, 40, 2.4233), (0.975, 149, 1.9760), (0.995, 30, 2.7500)])
def test_student_s_quantile(probability, freedom, expected):
    assert t_quantile(probability, freedom) == pytest.approx(expected, abs=1e-3)


def test_a_number_that_has_not_changed_yet_may_change():
    """AP50 of 40 photos that did not change while AP75 did: its interval is not 0, and holds a change of 2 people."""
    rng = np.random.default_rng(0)
    hit = rng.random((len(THRESHOLDS), 40)) < 0.8
    other = hit.copy()
    other[5, :6] = ~other[5, :6]
    found = difference_intervals(*(drawn(np.arange(40), one) for one in (hit, other)), 50, 0, 1)
    assert found["AP50"][0] < -2 / 40 and found["AP50"][1] > 2 / 40
