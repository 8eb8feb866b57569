"""Letterbox, decoding, selection and the way back: against golden data, and against slow loops of the same rules."""
from __future__ import annotations

import hashlib
import json

import cv2
import numpy as np
import pytest
from detection_cases import tiny_cfg

from contract.errors import UserError
from detection.darknet import read_cfg
from detection.decoding import Thresholds, anchor_rows, decode, find_people, nms, select_people
from detection.letterbox import boxes_to_photograph, letterbox, network_input
from pose.crops import read_photograph

SQUARE = (608, 608)


@pytest.fixture(scope="module")
def golden(shared):
    """Arrays and facts of photograph 785, by the name of their file without the number."""
    arrays = np.load(shared / "golden" / "yolo.npz")
    facts = json.loads((shared / "golden" / "yolo.json").read_text())["images"]["000000000785.jpg"]
    return {**{name.replace("_000000000785", ""): arrays[name] for name in arrays}, **facts}


def test_letterbox_is_exact(shared, golden):
    image = read_photograph(shared / "data" / "coco_mini" / "val2017" / "000000000785.jpg")
    canvas = letterbox(image, SQUARE)
    assert np.array_equal(canvas, golden["letterbox_u8"])
    tensor = network_input(canvas)
    assert tensor.flags.c_contiguous and tensor.shape == (3, *SQUARE)
    assert hashlib.sha256(tensor.tobytes()).hexdigest() == golden["input_sha256"]


@pytest.mark.parametrize(("photograph", "inner"), [
    ((640, 427), (608, 405)),  # 405.65 is cut
    ((526, 526), (607, 607)),  # 526 * (608 / 526) is 607.9999...
    ((427, 640), (405, 608)), ((608, 608), (608, 608)), ((3, 5000), (1, 608)),  # at least a pixel
])
def test_letterbox_size_and_bars(photograph, inner):
    canvas = letterbox(np.full((photograph[1], photograph[0], 3), 7, np.uint8), SQUARE)
    rows, columns = np.nonzero((canvas == 7).all(axis=2))
    assert (columns.max() - columns.min() + 1, rows.max() - rows.min() + 1) == inner
    assert (columns.min(), rows.min()) == ((608 - inner[0]) // 2, (608 - inner[1]) // 2)
    assert (canvas[(canvas != 7).any(axis=2)] == 128).all()


def test_letterbox_is_bicubic_in_a_canvas_that_is_no_square():
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    canvas = letterbox(image, (200, 100))
    assert np.array_equal(canvas[:, 60:140], cv2.resize(image, (80, 100), interpolation=cv2.INTER_CUBIC))


def test_selection_from_golden_rows_is_exact(golden):
    rows = golden["pred_rows"]  # those above 0.09 objectness, all 85 attributes
    assert golden["second_pass_at_0.55"]
    people = select_people(rows, Thresholds())
    assert np.array_equal(people, golden["dets"][:, 1:6])  # count, order, corners and scores, bit for bit
    boxes = boxes_to_photograph(people[:, :4], SQUARE, golden["dim_wh"])
    expected = np.array([person["bbox"] for person in golden["detections"]])
    assert np.abs(boxes[:, :2] - expected[:, :2]).max() <= 1e-4
    assert np.abs(boxes[:, 2:] - boxes[:, :2] - expected[:, 2:]).max() <= 1e-4
    first = golden["nms06"]
    candidates = np.concatenate([first[:, 1:5], first[:, 5:6]], axis=1)
    assert len(nms(candidates, 0.6)) == len(first) == golden["n_after_nms_0.6"]


def test_boxes_go_back_by_the_exact_half_and_are_clipped():
    inside = boxes_to_photograph(np.float32([[0, 101.175, 608, 506.825], [-50, 0, 700, 700]]), SQUARE, (640, 427))
    np.testing.assert_allclose(inside, [[0, 0, 640, 427], [0, 0, 640, 427]], atol=1e-3)
    assert inside.dtype == np.float32


def slow_nms(people, threshold):
    kept = []
    for index in sorted(range(len(people)), key=lambda index: (-people[index, 4], index)):
        if all(slow_iou(people[index], people[better]) < np.float32(threshold) for better in kept):
            kept.append(index)
    return kept


def slow_iou(a, b):
    one = np.float32(1)
    area = [(box[2] - box[0] + one) * (box[3] - box[1] + one) for box in (a, b)]
    width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]) + one)
    height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]) + one)
    return width * height / (area[0] + area[1] - width * height)


@pytest.mark.parametrize("seed", range(5))
def test_nms_equals_the_slow_one_with_ties(seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 60, (150, 2))  # whole pixels and few scores: many ties of both kinds
    people = np.concatenate([low, low + rng.integers(0, 40, (150, 2)), rng.integers(1, 9, (150, 1)) / 8], axis=1)
    people = people.astype(np.float32)
    for threshold in (0.3, 0.5, 0.6):
        assert nms(people, threshold).tolist() == slow_nms(people, threshold)


def test_nms_drops_at_the_threshold_itself_and_counts_a_pixel_more():
    pair = np.float32([[0, 0, 9, 9, 0.9], [0, 0, 9, 4, 0.8]])  # 100 and 50 pixels: exactly a half
    assert nms(pair, 0.5).tolist() == [0]
    assert nms(pair, 0.50001).tolist() == [0, 1]
    assert nms(pair[:0], 0.5).tolist() == []


def decoded_row(x, objectness=0.9, person=0.8, other=0.1):
    return [x, 50, 20, 40, objectness, person, other]


def test_who_is_a_person():
    rows = np.float32([decoded_row(100, objectness=0.1), decoded_row(200, objectness=0.1001),
                       decoded_row(300, person=0.3, other=0.3), decoded_row(400, person=0.3, other=0.30001),
                       decoded_row(500, person=0.0, other=0.0)])
    people = select_people(rows, Thresholds())
    assert people[:, 0].tolist() == [290, 490, 190]  # above the confidence; the first class wins ties
    one_class = select_people(rows[:, :6], Thresholds())
    assert sorted(one_class[:, 0].tolist()) == [190, 290, 390, 490]


@pytest.mark.parametrize(("people", "kept"), [(100, 100), (101, 51)])
def test_crowd_rule_begins_above_100_people(people, kept):
    """Neighbours overlap by 0.5 < IoU < 0.6 in pairs: they stay below the rule, and one of each pair goes above it."""
    pairs = np.arange(people) // 2
    rows = np.float32([decoded_row(1000 * pair) for pair in pairs])
    rows[1::2, 0] += 6  # 21 pixels wide and 6 apart: an IoU of 15 / 27 = 0.556
    assert len(select_people(rows, Thresholds())) == kept


def test_decoding_equals_the_formula_cell_by_cell(tmp_path):
    (tmp_path / "net.cfg").write_text(tiny_cfg())
    network = read_cfg(tmp_path / "net.cfg")
    raw = np.random.default_rng(0).normal(0, 2, network.output_shape).astype(np.float32)
    rows, index = decode(raw, anchor_rows(network)), 0
    for stride, anchors in ((32, [(81, 82), (135, 169), (344, 319)]), (16, [(10, 14), (23, 27), (37, 58)])):
        for y in range(64 // stride):
            for x in range(96 // stride):
                for width, height in anchors:
                    t = raw[index].astype(np.float64)
                    probability = 1 / (1 + np.exp(-t))
                    expected = [(probability[0] + x) * stride, (probability[1] + y) * stride, np.exp(t[2]) * width,
                                np.exp(t[3]) * height, *probability[4:]]
                    np.testing.assert_allclose(rows[index], expected, rtol=1e-5)
                    index += 1
    assert index == len(rows)


def test_finding_people_is_decoding_and_selecting(tmp_path):
    (tmp_path / "net.cfg").write_text(tiny_cfg())
    network = read_cfg(tmp_path / "net.cfg")
    raw, anchors = np.random.default_rng(0).normal(0, 2, network.output_shape).astype(np.float32), anchor_rows(network)
    found = find_people(raw, anchors, Thresholds())
    assert len(found) > 3 and np.array_equal(found, select_people(decode(raw, anchors), Thresholds()))


def test_an_infinite_size_is_clipped_without_a_warning(tmp_path):
    (tmp_path / "net.cfg").write_text(tiny_cfg())
    network = read_cfg(tmp_path / "net.cfg")
    raw = np.full(network.output_shape, -20, np.float32)
    raw[:2, 2:6] = 200
    with np.errstate(all="raise", under="ignore"):
        people = find_people(raw, anchor_rows(network), Thresholds())
        boxes = boxes_to_photograph(people[:, :4], (96, 64), (192, 128))
    assert (boxes == [0, 0, 192, 128]).all() and len(boxes)


@pytest.mark.parametrize("bad", [{"confidence": -0.1}, {"confidence": 1.0}, {"nms": 0.0}, {"confidence": float("nan")}])
def test_thresholds_are_fractions(bad):
    with pytest.raises(UserError, match="expected 0 <= confidence < 1"):
        Thresholds(**bad)
