"""COCO's files: detections and annotations in, the score out."""
from __future__ import annotations

import copy
import json

import pytest
from conftest import make_coco

from contract.errors import UserError
from pose.annotations import Annotations, ground_truth_boxes, load_annotations
from pose.coco import load_detections

METRICS = ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]
ROW = {"image_id": 7, "category_id": 1, "bbox": [1.5, 2, 30, 40], "score": 0.5}


def detections_of(tmp_path, rows: object) -> object:
    path = tmp_path / "detections.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return load_detections(path)


def annotation(**changes: object) -> dict:
    return {"image_id": 1, "bbox": [10, 20, 30, 40], "iscrowd": 0, "area": 500, "num_keypoints": 1,
            "keypoints": [12, 22, 2] + [0] * 48, **changes}


def truth_of(*annotations: dict) -> object:
    images = {1: {"id": 1, "width": 100, "height": 80}, 2: {"id": 2, "width": 50, "height": 50}}
    return ground_truth_boxes(Annotations("annotations.json", images, list(annotations)))


def test_detections_keep_their_order_and_digits(tmp_path):
    rows = [ROW, {**ROW, "image_id": 3, "bbox": [0.1, 0.2, 0.3, 0.4], "score": 1}, {**ROW, "score": 0}]
    detections = detections_of(tmp_path, rows)
    assert detections.image_ids.tolist() == [7, 3, 7] and detections.scores.tolist() == [0.5, 1, 0]
    assert detections.bbox_xywh.tolist() == [row["bbox"] for row in rows]
    assert detections.bbox_xyxy[1].tolist() == [0.1, 0.2, 0.1 + 0.3, 0.2 + 0.4]


def test_other_categories_are_left_out_and_none_means_person(tmp_path):
    without = {key: ROW[key] for key in ("image_id", "bbox", "score")}
    detections = detections_of(tmp_path, [{**ROW, "category_id": 3, "image_id": 1}, ROW, {**without, "image_id": 9}])
    assert detections.image_ids.tolist() == [7, 9]


def test_detections_of_some_photographs(tmp_path):
    rows = [{**ROW, "image_id": image_id, "score": number} for number, image_id in enumerate((5, 6, 5, 7))]
    chosen = detections_of(tmp_path, rows).of_images([7, 5])
    assert chosen.image_ids.tolist() == [5, 5, 7] and chosen.scores.tolist() == [0, 2, 3]


def test_boxes_of_no_or_negative_size_are_taken(tmp_path):
    boxes = [[1, 2, 0, 0], [1, 2, -3, 4]]
    assert detections_of(tmp_path, [{**ROW, "bbox": box} for box in boxes]).bbox_xywh.tolist() == boxes


@pytest.mark.parametrize("row", [
    None, [], {}, {**ROW, "bbox": None}, {**ROW, "bbox": [1, 2, 3]}, {**ROW, "bbox": [1, 2, 3, "4"]},
    {**ROW, "bbox": [1, 2, float("nan"), 4]}, {**ROW, "bbox": [1, 2, 3, float("inf")]},
    {**ROW, "bbox": [1e39, 2, 3, 4]}, {**ROW, "bbox": [1, 2, 3, 10 ** 400]}, {**ROW, "score": None},
    {**ROW, "score": float("nan")},
    {**ROW, "score": 10 ** 400}, {**ROW, "image_id": "7"}, {**ROW, "image_id": -1}, {**ROW, "image_id": 7.5},
    {**ROW, "image_id": 10 ** 30}, {"image_id": 7, "bbox": [1, 2, 3, 4]}], ids=repr)
def test_a_row_that_no_box_can_have_is_named(tmp_path, row):
    with pytest.raises(UserError, match="detections.json: row 1: [^\n]*$"):
        detections_of(tmp_path, [ROW, row])


@pytest.mark.parametrize("text", ["", "[", '{"a": 1}', "[]", '[{"image_id": 1, "category_id": 2}]', "\xff",
                                  "[" * 100000, json.dumps([ROW])[:-5]])
def test_what_is_no_detections_file_is_refused(tmp_path, text):
    path = tmp_path / "detections.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="detections.json: [^\n]*$"):
        load_detections(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.json"):
        load_detections(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="person_keypoints_val2017.json"):
        load_annotations(tmp_path)


def test_annotations_without_their_lists_are_refused(tmp_path):
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "person_keypoints_val2017.json"
    for text in ("[]", '{"images": []}', "{"):
        path.write_text(text)
        with pytest.raises(UserError, match="person_keypoints_val2017.json"):
            load_annotations(tmp_path)


def test_annotated_boxes_end_at_their_last_pixel():
    boxes = truth_of(annotation())
    assert boxes.bbox_xyxy.tolist() == [[10, 20, 39, 59]] and boxes.bbox_xywh.tolist() == [[10, 20, 29, 39]]
    assert boxes.image_ids.tolist() == [1] and boxes.scores.tolist() == [1]


@pytest.mark.parametrize("box, expected", [
    ([-5, -6, 30, 30], [0, 0, 24, 23]), ([90, 70, 30, 30], [90, 70, 99, 79]), ([-10, -10, 500, 500], [0, 0, 99, 79]),
    ([10.5, 20.25, 3.5, 4.5], [10.5, 20.25, 13, 23.75])])
def test_annotated_boxes_are_clipped_to_the_photograph(box, expected):
    assert truth_of(annotation(bbox=box)).bbox_xyxy.tolist() == [expected]


@pytest.mark.parametrize("changes", [
    {"iscrowd": 1}, {"area": 0}, {"num_keypoints": 0}, {"keypoints": [0] * 51}, {"bbox": [10, 20, 1, 40]},
    {"bbox": [10, 20, 30, 0.5]}, {"bbox": [200, 20, 30, 40]}, {"bbox": [10, -90, 30, 40]}], ids=repr)
def test_who_is_not_evaluated(changes):
    assert truth_of(annotation(image_id=2), annotation(**changes)).image_ids.tolist() == [2]


def test_annotated_people_come_by_photograph_then_in_the_files_order():
    boxes = truth_of(annotation(image_id=2), annotation(bbox=[9, 9, 20, 20]), annotation(image_id=2, bbox=[1, 1, 9, 9]),
                     annotation(bbox=[8, 8, 20, 20]))
    assert boxes.image_ids.tolist() == [1, 1, 2, 2]
    assert boxes.bbox_xyxy[:, 0].tolist() == [9, 8, 10, 1]


def test_metrics_of_the_golden_records_are_exact(shared):
    score = pytest.importorskip("pose.score")
    golden = shared / "golden"
    records = json.loads((golden / "keypoints_pre_nms.json").read_text())
    after = json.loads((golden / "keypoints_post_nms.json").read_text())
    scores = after[next(key for key in after if "score" in key)]
    results = [{**records[index], "score": value} for index, value in zip(after["keep_index"], scores)]
    before = copy.deepcopy(results)
    stats = score.score_keypoints(shared / "data" / "coco_mini", results, None)
    assert list(stats) == METRICS
    assert stats == json.loads((golden / "metrics.json").read_text())["flip_clean"]
    assert results == before  # pycocotools adds to the records that it is given; ours stay what they were


def perfect_results(coco) -> list:
    annotations = json.loads((coco / "annotations" / "person_keypoints_val2017.json").read_text())["annotations"]
    return [{"image_id": person["image_id"], "category_id": 1, "score": 0.9, "bbox": person["bbox"],
             "keypoints": person["keypoints"]} for person in annotations]


def test_perfect_results_score_one_and_bad_ones_nothing(coco):
    from pose.score import score_keypoints

    results = perfect_results(coco)
    assert score_keypoints(coco, results, None)["AP"] == pytest.approx(1)
    for result in results:
        result["keypoints"] = [value + 500 for value in result["keypoints"]]
    assert score_keypoints(coco, results, None)["AP"] == 0


def test_only_the_photographs_asked_for_are_scored(coco):
    from pose.score import score_keypoints

    results = perfect_results(coco)
    first = min(result["image_id"] for result in results)
    of_first = [result for result in results if result["image_id"] == first]
    assert score_keypoints(coco, of_first, [first])["AR"] == pytest.approx(1)
    assert score_keypoints(coco, of_first, None)["AR"] < 0.5


def test_scoring_prints_nothing(coco, capfd):
    from pose.score import score_keypoints

    score_keypoints(coco, perfect_results(coco), None)
    assert capfd.readouterr() == ("", "")


def test_results_of_another_data_set_are_refused(coco, tmp_path):
    from pose.score import score_keypoints

    results = [{**result, "image_id": result["image_id"] + 1000} for result in perfect_results(coco)]
    with pytest.raises(UserError, match="1003"):
        score_keypoints(coco, results, None)
    with pytest.raises(UserError, match="person_keypoints_val2017.json"):
        score_keypoints(tmp_path, results, None)
    broken = make_coco(tmp_path / "broken", 1, 1)
    (broken / "annotations" / "person_keypoints_val2017.json").write_text('{"images": [')
    with pytest.raises(UserError, match="person_keypoints_val2017.json"):
        score_keypoints(broken, perfect_results(make_coco(tmp_path / "whole", 1, 1)), None)
