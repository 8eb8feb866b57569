"""AlphaPose's parametric pose NMS against the original's own picks, poses and scores."""
from __future__ import annotations

import json

import numpy as np
import pytest

from pose.pose_nms import pose_nms
from pose.poses import People, nobody

CASES = [f"{image}, least area {area}" for image in (1000, 2299) for area in (0, 3000)]


def people_of(boxes_xyxy, box_scores, keypoints, scores) -> People:
    boxes = np.array(boxes_xyxy, np.float32).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return People(boxes, np.array(box_scores, np.float32).reshape(-1), np.array(keypoints, np.float32),
                  np.array(scores, np.float32).reshape(len(boxes), -1))


@pytest.mark.parametrize("number", range(4), ids=CASES)
def test_golden(shared, number):
    case = json.loads((shared / "golden/pose_nms_cases.json").read_text())[number]
    people = people_of(case["boxes_xyxy"], case["box_scores"], case["pose_xy"], case["pose_scores"])
    found = pose_nms(people, case["areaThres"])
    picked = people.take(case["out_pick"])
    assert np.array_equal(found.boxes_xywh, picked.boxes_xywh) and np.array_equal(found.box_scores, picked.box_scores)
    assert found.merged.tolist() == [np.ravel(ids).size for ids in case["out_ids"]]
    np.testing.assert_allclose(found.keypoints, case["out_pose_xy"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, np.array(case["out_pose_scores"])[:, :, 0], rtol=0, atol=1e-6)


def far_apart(people: int, **changes) -> People:
    rng = np.random.default_rng(3)
    low = 300.0 * np.arange(people)[:, None]
    boxes = np.concatenate([low, low, low + 100, low + 200], axis=1)
    return people_of(boxes, np.full(people, 0.9), low[:, None] + rng.uniform(0, 100, (people, 17, 2)),
                     rng.uniform(0.5, 0.9, (people, 17)))


def test_people_apart_stay_as_they_are_best_first():
    people = far_apart(4)
    found = pose_nms(people)
    order = np.argsort(-people.scores.mean(axis=1))
    np.testing.assert_allclose(found.keypoints, people.keypoints[order], atol=1e-4)
    assert found.merged.tolist() == [1, 1, 1, 1]


def test_copies_of_a_pose_are_joined_by_their_scores():
    one = far_apart(1)
    shifted = one.keypoints + np.float32(2)
    both = People(np.repeat(one.boxes_xywh, 2, 0), np.repeat(one.box_scores, 2),
                  np.concatenate([one.keypoints, shifted]), np.concatenate([one.scores, one.scores / 3]))
    found = pose_nms(both)
    assert found.merged.tolist() == [2]
    np.testing.assert_allclose(found.keypoints[0], one.keypoints[0] + 0.5, atol=1e-4)  # weights 3/4 and 1/4


def test_nobody_and_the_unsure_and_the_small():
    assert len(pose_nms(nobody(17))) == 0
    unsure = far_apart(2)
    assert len(pose_nms(People(unsure.boxes_xywh, unsure.box_scores, unsure.keypoints, unsure.scores * 0))) == 0
    assert len(pose_nms(unsure, least_area=1e6)) == 0
