"""OKS and its NMS: AlphaPose's recorded cases, pycocotools' own OKS, and loops that follow the rules."""
from __future__ import annotations

import json

import numpy as np
import pytest

from pose.oks import nms_per_photograph, oks, oks_nms, rescore, soft_oks_nms
from pose.skeleton import COCO17


def people(number: int, seed: int = 0, spread: float = 6) -> tuple:
    """Keypoints, joint scores, box scores and areas of people who stand close enough to be dropped now and then."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 80, (1, 17, 2)) + rng.normal(0, spread, (number, 17, 2))
    return (keypoints.astype(np.float32), rng.uniform(-0.1, 1.1, (number, 17)).astype(np.float32),
            rng.uniform(0, 1, number), rng.uniform(2000, 9000, number))


def oks_by_loops(one: np.ndarray, one_area: float, other: np.ndarray, other_area: float) -> float:
    total = 0.0
    for joint in range(17):
        dx, dy = (float(one[joint, axis]) - float(other[joint, axis]) for axis in (0, 1))
        variance = (2 * COCO17.sigmas[joint]) ** 2
        total += np.exp(-(dx ** 2 + dy ** 2) / variance / ((one_area + other_area) / 2 + 2.2e-16) / 2)
    return total / 17


def nms_by_loops(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray) -> list:
    """Greedy: the best of the remaining stays, and drops everyone too much like it. Later ones win ties."""
    left, keep = list(range(len(scores))), []
    while left:
        best = max(left, key=lambda index: (scores[index], index))
        keep.append(best)
        left = [index for index in left if index != best
                and oks_by_loops(keypoints[best], areas[best], keypoints[index], areas[index]) <= 0.9]
    return keep


def columns(records: list) -> tuple:
    joints = np.array([record["keypoints"] for record in records]).reshape(-1, 17, 3)
    return (np.array([record["image_id"] for record in records]), joints[..., :2],
            rescore(joints[..., 2], np.array([record["score"] for record in records])),
            np.array([record["area"] for record in records]))


def test_nms_cases_are_alphaposes_in_order_and_scores(shared):
    cases = json.loads((shared / "golden" / "nms_cases.json").read_text())
    assert cases
    for case in cases:
        image_ids, keypoints, scores, areas = columns(case["input"])
        keep = nms_per_photograph(image_ids, keypoints, scores, areas, "soft" if case["soft"] else "greedy")
        assert [case["input"][index]["uid"] for index in keep] == case["output_uid"], case["name"]
        assert scores[keep].tolist() == case["output_score"], case["name"]


def test_nms_of_the_golden_records_is_alphaposes(shared):
    records = json.loads((shared / "golden" / "keypoints_pre_nms.json").read_text())
    expected = json.loads((shared / "golden" / "keypoints_post_nms.json").read_text())
    image_ids, keypoints, scores, areas = columns(records)
    keep = nms_per_photograph(image_ids, keypoints, scores, areas)
    assert keep == expected["keep_index"]
    scores_key = next(key for key in expected if "score" in key)
    assert scores[keep].tolist() == expected[scores_key]


def test_oks_is_pycocotools_own():
    """Where the two areas are equal, all joints are visible and the truth is the other person."""
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    keypoints, _, _, _ = people(6, seed=1)
    joints = np.concatenate([keypoints.astype(float), np.full((6, 17, 1), 2)], axis=2).reshape(6, -1)
    truth = coco.COCO()
    truth.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [
        {"id": number + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 4321.0, "bbox": [0, 0, 80, 80],
         "num_keypoints": 17, "keypoints": joints[number].tolist()} for number in range(6)]}
    truth.createIndex()
    results = [{"image_id": 1, "category_id": 1, "score": 1 - number / 10, "keypoints": joints[number].tolist()}
               for number in range(6)]
    evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), "keypoints")
    evaluation.params.imgIds, evaluation.params.catIds = [1], [1]
    evaluation._prepare()
    expected = evaluation.computeOks(1, 1)  # (results, truth)
    for number in range(6):
        np.testing.assert_allclose(oks(keypoints[number], 4321.0, keypoints, np.full(6, 4321.0)), expected[number],
                                   rtol=1e-12)


def test_oks_is_that_of_slow_loops():
    keypoints, _, _, areas = people(20, seed=2)
    values = oks(keypoints[3], areas[3], keypoints, areas)
    np.testing.assert_allclose(values, [oks_by_loops(keypoints[3], areas[3], *other)
                                        for other in zip(keypoints, areas)], rtol=1e-12)
    assert values[3] == 1


def test_oks_of_boxes_without_area_is_defined():
    keypoints = np.zeros((2, 17, 2), np.float32)
    keypoints[1] += 5
    assert oks(keypoints[0], 0.0, keypoints, np.zeros(2)).tolist() == [1, 0]


def test_scores_count_joints_above_the_threshold_only():
    _, scores, box_scores, _ = people(200, seed=3)
    scores[:3] = 0.1  # nobody counts
    scores[3, :] = np.float32(0.2)  # in float64 a little above 0.2, as AlphaPose compares
    scores[4, 1:] = -1
    scores[4, 0] = 0.5
    expected = []
    for row, box_score in zip(scores.astype(float).tolist(), box_scores.tolist()):
        counted = [score for score in row if score > 0.2]
        expected.append((sum(counted) / len(counted) if counted else 0) * box_score)
    assert rescore(scores, box_scores).tolist() == expected


@pytest.mark.parametrize("seed", range(6))
def test_nms_is_that_of_slow_loops(seed):
    keypoints, _, scores, areas = people(30, seed, spread=(2, 4, 6)[seed % 3])
    if seed % 2:
        scores = scores.round(1)  # ties
    keep = oks_nms(keypoints, scores, areas)
    assert keep == nms_by_loops(keypoints, scores, areas)
    assert seed % 3 or 1 <= len(keep) < 30  # the closest ones do drop somebody


def test_equal_scores_keep_the_later_person_for_any_number():
    for number in (2, 16, 17, 100):
        keypoints = np.arange(number, dtype=np.float32)[:, None, None] * np.full((1, 17, 2), 1000, np.float32)
        assert oks_nms(keypoints, np.full(number, 0.5), np.full(number, 100.0)) == list(range(number))[::-1]


def test_the_threshold_keeps_what_equals_it():
    keypoints, _, _, areas = people(2, seed=4, spread=3)
    value = float(oks(keypoints[0], areas[0], keypoints[1:], areas[1:])[0])
    assert oks_nms(keypoints, np.array([1.0, 0.5]), areas, threshold=value) == [0, 1]
    assert oks_nms(keypoints, np.array([1.0, 0.5]), areas, threshold=np.nextafter(value, 0)) == [0]


def test_photographs_come_in_order_of_first_appearance():
    keypoints = np.arange(6, dtype=np.float32)[:, None, None] * np.full((1, 17, 2), 1000, np.float32)
    image_ids, scores = np.array([9, 2, 9, 2, 5, 9]), np.array([0.1, 0.2, 0.3, 0.9, 0.5, 0.2])
    assert nms_per_photograph(image_ids, keypoints, scores, np.full(6, 10.0)) == [2, 5, 0, 3, 1, 4]


def test_people_of_different_photographs_do_not_drop_each_other():
    keypoints = np.zeros((2, 17, 2), np.float32)
    assert nms_per_photograph(np.array([1, 2]), keypoints, np.array([0.5, 0.6]), np.full(2, 10.0)) == [0, 1]
    assert nms_per_photograph(np.array([1, 1]), keypoints, np.array([0.5, 0.6]), np.full(2, 10.0)) == [1]


def test_the_soft_variant_reorders_and_keeps_twenty():
    keypoints, _, scores, areas = people(40, seed=5, spread=3)
    keep = soft_oks_nms(keypoints, scores, areas)
    left, decayed, expected = list(range(40)), dict(enumerate(scores)), []
    while left and len(expected) < 20:
        best = max(left, key=lambda index: decayed[index])
        expected.append(best)
        left.remove(best)
        for index in left:
            similar = oks_by_loops(keypoints[best], areas[best], keypoints[index], areas[index])
            decayed[index] *= np.exp(-similar ** 2 / 0.9)
    assert keep == expected
