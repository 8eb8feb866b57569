"""demo/draw.py: the right bones in the right colours on the right photograph."""
from __future__ import annotations

import json

import cv2
import numpy as np
from conftest import done, one_error

from demo.draw import LEFT, MIDDLE, RIGHT, draw_person
from pose.coco import JOINTS


def standing(score: float = 1.0) -> np.ndarray:
    """(17, 3) a person who faces the viewer: left joints at x = 150, right ones at x = 50, a row a joint pair."""
    joints = np.array([[100, 10, score], *([150 if number % 2 else 50, 20 + 10 * ((number + 1) // 2), score]
                                           for number in range(1, 17))])
    return joints


def test_sides_have_their_colours():
    image = np.zeros((120, 200, 3), np.uint8)
    joints = standing()
    draw_person(image, joints)
    for side, color in (("left", LEFT), ("right", RIGHT)):
        elbow, wrist = (joints[JOINTS.index(f"{side}_{part}")] for part in ("elbow", "wrist"))
        x, y = ((elbow + wrist) / 2)[:2].astype(int)
        assert tuple(image[y, x]) == color
    shoulders = joints[[JOINTS.index("left_shoulder"), JOINTS.index("right_shoulder")]].mean(axis=0)
    assert tuple(image[int(shoulders[1]), int(shoulders[0])]) == MIDDLE


def test_joints_that_do_not_count_are_left_out():
    image = np.zeros((120, 200, 3), np.uint8)
    draw_person(image, standing(score=0.2))
    assert not image.any()


def test_photographs_stand_side_by_side_with_their_own_people(coco, main, tmp_path):
    person = {"image_id": 3, "score": 0.9, "keypoints": standing().ravel().tolist()}
    (tmp_path / "keypoints.json").write_text(json.dumps([person, {**person, "image_id": 14, "score": 0.1}]))
    arguments = ("--dataroot", coco, "--keypoints", tmp_path / "keypoints.json", "--output", tmp_path / "out.png")
    done(main("demo.draw", *arguments, "--images", 3, 14))
    both = cv2.imread(str(tmp_path / "out.png"))
    done(main("demo.draw", *arguments, "--images", 14))  # its one person scores too little to be drawn
    other = cv2.imread(str(tmp_path / "out.png"))
    np.testing.assert_array_equal(both[:, -other.shape[1]:], other)
    assert "no such photograph" in one_error(main("demo.draw", *arguments, "--images", 99))
