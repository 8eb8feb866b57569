"""Boxes against AlphaPose's recorded ones, and against its rules followed one box at a time."""
from __future__ import annotations

import json

import numpy as np
import pytest

from pose.boxes import box_to_center_scale, center_scale_to_xyxy
from pose.coco import load_detections

ASPECT = 192 / 256
# left, top, width, height
EDGE_CASES = {"no size": (30, 40, 0, 0), "no width": (30, 40, 0, 80), "no height": (30, 40, 80, 0),
              "negative width": (30, 40, -20, 80), "negative both": (30, 40, -20, -30), "outside": (-900, 5000, 20, 30),
              "of the aspect ratio": (10, 20, 75, 100), "too wide": (10, 20, 76, 100), "too tall": (10, 20, 74, 100),
              "centre x of -1": (-11, 20, 20, 40), "centre y of -1": (20, -11, 20, 20),
              "smaller than a pixel": (3, 4, 1e-3, 1e-2), "huge": (-4000, -4000, 9000, 9000)}


def center_and_scale(x: float, y: float, w: float, h: float) -> tuple:
    """AlphaPose's rules for one box, in Python floats."""
    right, bottom = x + w, y + h
    w, h = right - x, bottom - y
    center = np.float32(x + w * 0.5), np.float32(y + h * 0.5)
    if w > ASPECT * h:
        h = w / ASPECT
    elif w < ASPECT * h:
        w = h * ASPECT
    scale = np.float32(w), np.float32(h)
    if center[0] != -1:
        scale = np.float32(scale[0] * np.float32(1.25)), np.float32(scale[1] * np.float32(1.25))
    return center, scale


def xyxy(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def test_centers_scales_and_crop_boxes_are_alphaposes(shared):
    golden = np.load(shared / "golden" / "crops.npz")
    detections = load_detections(shared / "golden" / "boxes.json")
    center, scale = box_to_center_scale(detections.bbox_xyxy, ASPECT)
    assert center.dtype == scale.dtype == np.float32
    np.testing.assert_array_equal(center, golden["center_f32"])
    np.testing.assert_array_equal(scale, golden["scale_f32"])
    crop_xyxy = center_scale_to_xyxy(center, scale)
    assert crop_xyxy.dtype == np.float32
    np.testing.assert_allclose(crop_xyxy, golden["crop_bbox_f32"], rtol=0, atol=1e-4)


def test_crop_boxes_of_all_golden_detections(shared):
    """474 of them; `area` of a record is that of its crop box."""
    detections = load_detections(shared / "golden" / "detections.json")
    low, high = np.split(center_scale_to_xyxy(*box_to_center_scale(detections.bbox_xyxy, ASPECT)).astype(float), 2, 1)
    records = json.loads((shared / "golden" / "keypoints_pre_nms.json").read_text())
    np.testing.assert_allclose((high - low).prod(axis=1), [record["area"] for record in records], rtol=1e-6)


@pytest.mark.parametrize("box", EDGE_CASES.values(), ids=EDGE_CASES.keys())
def test_edge_cases(box):
    center, scale = box_to_center_scale(xyxy(np.array([box], float)), ASPECT)
    expected = center_and_scale(*box)
    assert tuple(center[0]) == expected[0] and tuple(scale[0]) == expected[1]


def test_many_boxes_are_the_same_as_one_at_a_time():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(-50, 640, (500, 4)), rng.uniform(-50, 50, (200, 4)),
                            rng.integers(-1, 4, (300, 4))])
    center, scale = box_to_center_scale(xyxy(boxes), ASPECT)
    for number, box in enumerate(boxes):
        expected = center_and_scale(*map(float, box))
        assert (tuple(center[number]), tuple(scale[number])) == expected, box


def test_only_the_marked_centre_is_not_padded():
    center, scale = box_to_center_scale(np.array([[-11, 20, 9, 60], [-12, 20, 9, 60]], float), ASPECT)
    assert center[0, 0] == -1 and scale[0].tolist() == [30, 40]
    assert scale[1, 1] == 1.25 * 40


def test_corners_enclose_the_scale_about_the_centre():
    corners = center_scale_to_xyxy(np.array([[100, 50]], np.float32), np.array([[30, 40]], np.float32))
    assert corners.tolist() == [[85, 30, 115, 70]]


def test_no_boxes():
    center, scale = box_to_center_scale(np.zeros((0, 4)), ASPECT)
    assert center.shape == scale.shape == (0, 2)
    assert center_scale_to_xyxy(center, scale).shape == (0, 4)
