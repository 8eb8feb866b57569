"""Result files against those that AlphaPose wrote for the same people."""
from __future__ import annotations

import json

import numpy as np
import pytest
from test_pose_nms import people_of

from contract.errors import UserError
from pose.alphapose_results import image_number, results_text, separate_text
from pose.poses import People, nobody


@pytest.fixture()
def picked(shared):
    """The people of two images that the original's pose NMS picked."""
    cases = json.loads((shared / "golden/pose_nms_cases.json").read_text())
    images = []
    for case in (case for case in cases if case["areaThres"] == 0):
        people = people_of(case["out_boxes"], case["out_box_scores"], case["out_pose_xy"], case["out_pose_scores"])
        merged = np.array([np.ravel(ids).size for ids in case["out_ids"]])
        images.append((f"{case['image_id']:012d}.jpg", People(people.boxes_xywh, people.box_scores, people.keypoints,
                                                              people.scores, merged=merged)))
    return images


@pytest.fixture()
def tracked(shared):
    """Three frames of people with PoseFlow's ids."""
    formats = json.loads((shared / "golden/wave2/track_formats.json").read_text())
    frames = json.loads((shared / "golden/wave2/poseflow_A.json").read_text())["frames"]
    return [(name, People(np.array(boxes, np.float32), np.full(len(boxes), formats["box_score"], np.float32),
                          np.array(frame["keypoints"], np.float32), np.array(frame["kp_score"], np.float32),
                          ids=np.array(frame["ids"])))
            for name, boxes, frame in zip(formats["frames"], formats["boxes_xywh"], frames)]


def same(found, expected) -> None:
    """Equal keys in equal order, equal text and whole numbers, and other numbers to 1e-6 of float32's size."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
    else:
        assert found == expected


def results(images, *settings):
    return json.loads("".join(results_text(images, *settings)))


@pytest.mark.parametrize("format_name", ["default", "cmu", "open"])
def test_golden_formats(shared, picked, format_name):
    golden = json.loads((shared / "golden/demo_formats.json").read_text())[f"{format_name}_eval0"]
    same(results(picked, format_name), golden["alphapose-results.json"])
    if golden["sep-json"]:
        separate = [separate_text(name, people, format_name) for name, people in picked]
        assert [name for name, _ in separate] == golden["sep-json"]
        same([json.loads(text) for _, text in separate], list(golden["alphapose-results.json"].values()))


def test_golden_default_by_number(shared, picked):
    golden = json.loads((shared / "golden/demo_formats.json").read_text())["default_eval1"]
    same(results(picked, "default", True), golden["alphapose-results.json"])


@pytest.mark.parametrize("format_name", ["default", "cmu", "open"])
def test_golden_formats_with_ids(shared, tracked, format_name):
    golden = json.loads((shared / "golden/wave2/track_formats.json").read_text())
    same(results(tracked, format_name), golden[format_name])
    if format_name == "default":
        same(results(tracked, format_name, True), golden["default_for_eval"])


def test_every_format_by_number(picked):
    """The original fails for cmu and open with --eval."""
    assert list(results(picked, "cmu", True)) == ["1000", "2299"]
    coco = results(picked, "coco")
    assert coco[0]["image_id"] == 1000 and list(coco[0]) == ["image_id", "category_id", "keypoints", "score", "bbox"]


def test_an_image_without_people_is_absent(picked):
    (first, some), (second, _) = picked
    for format_name, expected in (("default", []), ("cmu", {})):
        assert results([("none.jpg", nobody(17))], format_name) == expected
    assert list(results([(first, some), (second, nobody(17))], "open")) == [first]


def test_image_number():
    assert [image_number(name) for name in ("COCO_val2014_000000000139.jpg", "12.png", "a/b_7.jpeg")] == [139, 12, 7]
    with pytest.raises(UserError, match="holiday.jpg: expected a name that ends in a number"):
        image_number("holiday.jpg")
