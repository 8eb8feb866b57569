"""demo/draw.py: the right people on the right photograph."""
from __future__ import annotations

import json

import cv2
import numpy as np
from conftest import done, one_error


def standing(score: float = 1.0) -> np.ndarray:
    """(17, 3) a person who faces the viewer: left joints at x = 150, right ones at x = 50, a row a joint pair."""
    joints = np.array([[100, 10, score], *([150 if number % 2 else 50, 20 + 10 * ((number + 1) // 2), score]
                                           for number in range(1, 17))])
    return joints


def test_photographs_stand_side_by_side_with_their_own_people(coco, main, tmp_path):
    person = {"image_id": 3, "score": 0.9, "keypoints": standing().ravel().tolist()}
    (tmp_path / "keypoints.json").write_text(json.dumps([person, {**person, "image_id": 14, "score": 0.1}]))
    arguments = ("--dataroot", coco, "--keypoints", tmp_path / "keypoints.json", "--output", tmp_path / "out.png")
    done(main("demo.draw", *arguments, "--images", 3, 14))
    both = cv2.imread(str(tmp_path / "out.png"))
    done(main("demo.draw", *arguments, "--images", 14))  # its one person scores too little to be drawn
    other = cv2.imread(str(tmp_path / "out.png"))
    np.testing.assert_array_equal(both[:, -other.shape[1]:], other)
    assert "no such photo" in one_error(main("demo.draw", *arguments, "--images", 99))
