"""Annotation files as tools write them: the right number, or one line that names what is wrong, before any dump."""
from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import done, make_coco, one_error

from contract.errors import UserError
from pose.annotations import annotations_path, ground_truth_boxes, load_annotations
from pose.skeleton import COCO17

pytest.importorskip("pycocotools")

SECTIONS = ("images", "annotations", "categories")
PEOPLE = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A data root of 3 photos with 2 people each."""
    return make_coco(tmp_path_factory.mktemp("annotations") / "coco", 3, people_each=2)


@pytest.fixture()
def edited(whole, tmp_path):
    """Write the annotations after a change of them; returns the file. What a change returns takes their place."""
    def edit(change) -> Path:
        content = json.loads(annotations_path(whole).read_text())
        changed = change(content)
        path = tmp_path / "annotations.json"
        text = changed if isinstance(changed, (str, bytes)) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return edit


def of_all(**changes):
    """A change of every person; a value that is a function gets the person, None removes the key."""
    def change(content):
        for number, person in enumerate(content["annotations"]):
            of_one(person, number, changes)
    return change


def of_first(**changes):
    return lambda content: of_one(content["annotations"][0], 0, changes)


def of_one(person: dict, number: int, changes: dict) -> None:
    for key, value in changes.items():
        value = value(person, number) if callable(value) else value
        if value is None:
            del person[key]
        else:
            person[key] = value


def perfect_score(path: Path, whole: Path) -> float:
    """AP of results that are the true annotations, compared with the file."""
    from pose.score import score_keypoints

    people = json.loads(annotations_path(whole).read_text())["annotations"]
    results = [{"image_id": person["image_id"], "category_id": 1, "score": 0.9, "bbox": person["bbox"],
                "keypoints": person["keypoints"]} for person in people]
    return score_keypoints(path, results, None)["AP"]


def other_category(person_id: int = 1):
    """A second category, with an annotation like a person's and one of a box alone."""
    def change(content):
        content["categories"] = [{"id": person_id, "name": "person"}, {"id": 7, "name": "mannequin"}]
        of_all(category_id=person_id)(content)
        content["annotations"] += [{**content["annotations"][0], "id": 99, "category_id": 7},
                                   {"id": 100, "image_id": 3, "category_id": 7, "bbox": [1, 1, 9, 9]}]
    return change


def category(**changes):
    """The only category, changed, and everybody of it."""
    def change(content):
        content["categories"][0].update(changes)
        of_all(category_id=content["categories"][0]["id"])(content)
    return change


def duplicate_ids(content):
    for number, person in enumerate(content["annotations"]):
        person["id"] = number // 2 + 1


def without_joints(content):
    content["annotations"].append({"id": 50, "image_id": 3, "category_id": 1, "bbox": [1, 1, 9, 9]})


RIGHT = {  # name -> change, what is said
    "as it is": (lambda content: None, ""),
    "ids from 0": (of_all(id=lambda person, number: number), "renumbered from 1.*: 6"),
    "negative ids": (of_all(id=lambda person, number: -number - 1), "renumbered"),
    "ids of text": (of_all(id=lambda person, number: f"a{number}"), "renumbered"),
    "no ids": (of_all(id=None), "renumbered"),
    "the same id for two": (duplicate_ids, "renumbered"),
    "category 0": (category(id=0), ""),
    "category 17": (category(id=17), ""),
    "a person with a capital": (category(name="Person"), ""),
    "joints in other letters": (category(keypoints=[joint.replace("_", " ").title() for joint in COCO17.joints]), ""),
    "another name, but joints": (category(name="human", keypoints=list(COCO17.joints)), ""),
    "a word for people": (category(name="Human"), ""),
    "a kind of person": (category(name="worker", supercategory="person"), ""),
    "other categories": (other_category(), "left out, of category 7 .people are category 1.: 2"),
    "other categories, the person last": (other_category(90), "left out, of category 7 .people are category 90.: 2"),
    "no area": (of_all(area=None), "without area, completed by the area of the bbox: 6"),
    "no iscrowd": (of_all(iscrowd=None), "without iscrowd, completed by 0: 6"),
    "no num_keypoints": (of_first(num_keypoints=None), "without num_keypoints.*: 1"),
    "null for missing": (lambda content: json.dumps(content).replace('"iscrowd": 0', '"iscrowd": null'), "iscrowd"),
    "num_keypoints of joints": (of_all(num_keypoints=14), "num_keypoints is not the count"),
    "num_keypoints 0": (of_first(num_keypoints=0), "num_keypoints is not the count.*: 1"),
    "somebody without joints": (without_joints, "num_keypoints"),
    "photos that are not there": (lambda content: content["annotations"].append(
        {**content["annotations"][0], "id": 9, "image_id": 777}), "left out, on photos .*: 1"),
    "ids with a fraction of 0": (of_all(image_id=lambda person, number: float(person["image_id"])), ""),
    "true and false": (of_all(iscrowd=False), ""),
    "info there": (lambda content: content.update(info={"year": 2017}, licenses=[]), ""),
    "a byte order mark": (lambda content: b"\xef\xbb\xbf" + json.dumps(content).encode(), ""),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_number_is_right_and_changes_are_said(whole, edited, capfd, name):
    change, said = RIGHT[name]
    path = edited(change)
    assert perfect_score(path, whole) == pytest.approx(1)
    output, notes = capfd.readouterr()
    assert output == "" and (notes.count("\n") >= 1 if said else notes == "")
    assert np.all([line.startswith(f"note: {path}: annotations ") for line in notes.splitlines()])

    assert re.search(said, notes)


def section(name: str, value: object):
    return lambda content: content.update({name: value})


def corners(person: dict, number: int) -> list:
    """The right and bottom of a box in place of its width and height."""
    x, y, width, height = person["bbox"]
    return [x, y, x + width, y + height]


def joints(count: int):
    return lambda person, number: (person["keypoints"] * 8)[:3 * count]


REFUSED = {  # name -> change, words of the error
    "empty": (lambda content: "", "expected JSON"),
    "a list": (lambda content: json.dumps(content["annotations"]), "got list"),
    "compressed": (lambda content: __import__("gzip").compress(json.dumps(content).encode()), "is compressed by gzip"),
    **{f"no {name}": (lambda content, name=name: content.pop(name) and None, f"'{name}' is missing")
       for name in SECTIONS},
    **{f"{name} an object": (section(name, {"1": 2}), f"'{name}' is dict") for name in SECTIONS},
    **{f"{name} of numbers": (section(name, [3]), rf"{name}\[0\] is int") for name in SECTIONS},
    "no photo": (section("images", []), "'images' is empty"),
    "nobody": (section("annotations", []), "nothing to score"),
    "crowds alone": (of_all(iscrowd=1), "nothing to score"),
    "nobody is a person": (of_all(category_id=5), "nothing to score"),
    "nobody has joints": (of_all(keypoints=None, num_keypoints=None), "nothing to score"),
    "no category": (section("categories", []), "none of the 0 categories"),
    "no person": (category(name="ball"), "none of the 1 categories .1 'ball'."),
    "two persons": (lambda content: content["categories"].append({"id": 2, "name": "person"}), "2 of the 2"),
    "14 joints in the category": (category(keypoints=list(COCO17.joints[:14])), "14: .*expected COCO's 17"),
    "joints in another order": (category(keypoints=list(COCO17.joints[::-1])), "from nose to right_ankle"),
    "a photo twice": (lambda content: content["images"].append(content["images"][0]), "id 3 is there twice"),
    "a photo of text": (lambda content: content["images"][1].update(id="14"), r"images\[1\]: id is '14'"),
    "a photo without id": (lambda content: content["images"][1].pop("id") and None, r"images\[1\]: 'id' is missing"),
    "a photo of no width": (lambda content: content["images"][1].update(width=0), r"images\[1\]: width is 0"),
    "a file_name of numbers": (lambda content: content["images"][1].update(file_name=7), "file_name is 7"),
    "a copy": (lambda content: content["annotations"].append(content["annotations"][0]), "annotation 1 is there twice"),
    "no image_id": (of_first(image_id=None), "annotation 1: 'image_id' is missing"),
    "image_id of text": (of_first(image_id="3"), "annotation 1: image_id is '3'"),
    "image_id of a fraction": (of_first(image_id=3.5), "annotation 1: image_id is 3.5"),
    "no category_id": (of_first(category_id=None), "annotation 1: 'category_id' is missing"),
    "no bbox": (of_first(bbox=None), "annotation 1: 'bbox' is missing"),
    "a bbox of 3": (of_first(bbox=[1, 2, 3]), "annotation 1: 'bbox' is "),
    "a bbox of text": (of_first(bbox=["1", 2, 3, 4]), "annotation 1: 'bbox' is "),
    "a bbox of NaN": (of_first(bbox=[math.nan, 2, 3, 4]), "annotation 1: 'bbox' is "),
    "a negative bbox": (of_first(bbox=[1, 2, -3, 4]), "annotation 1: bbox is "),
    "boxes of corners": (of_all(bbox=corners), "every bbox looks like left, top, right, bottom"),
    "boxes of fractions": (of_all(bbox=[0.1, 0.2, 0.3, 0.4]), "every bbox lies between 0 and 1"),
    "joints of fractions": (of_all(keypoints=[0.25, 0.5, 2] * 17), "every keypoints lies between 0 and 1"),
    **{f"{count} joints": (of_all(keypoints=joints(count)), f"annotation 1: has {count} joints, expected COCO's 17")
       for count in (14, 16, 19, 26, 133)},
    "half a joint": (of_first(keypoints=[1] * 50), "annotation 1: has 50 numbers"),
    "two numbers each": (of_first(keypoints=[1] * 34), "annotation 1: has 34 numbers"),
    "joints of 17 lists": (of_first(keypoints=[[1, 2, 2]] * 17), "annotation 1: has lists of 17 joints"),
    "joints of lists": (of_first(keypoints=[[1, 2, 2]] * 51), "annotation 1: 'keypoints' is "),
    "joints of an object": (of_first(keypoints={"nose": [1, 2, 2]}), "annotation 1: 'keypoints' is "),
    "joints of NaN": (of_first(keypoints=[math.nan, 1, 2] * 17), "annotation 1: 'keypoints' is "),
    "joints of infinity": (of_first(keypoints=[math.inf, 1, 2] * 17), "annotation 1: 'keypoints' is "),
    "joints beyond numbers": (of_first(keypoints=[10 ** 400, 1, 2] * 17), "annotation 1: 'keypoints' is "),
    "label 3": (of_first(keypoints=[5, 5, 3] * 17), "annotation 1: a joint's label is 3, expected 0, 1 or 2"),
    "labels of scores": (of_first(keypoints=[5, 5, 0.9] * 17), "annotation 1: a joint's label is 0.9"),
    "labelled nowhere": (of_first(keypoints=[5, 5, 0] * 17), "annotation 1: num_keypoints is 17, but every joint"),
    "joints promised": (of_first(keypoints=None), "annotation 1: has 0 joints"),
    "area 0": (of_first(area=0), "annotation 1: area is 0, expected more than 0"),
    "a negative area": (of_first(area=-1), "annotation 1: area is -1"),
    "area of text": (of_first(area="9"), "annotation 1: 'area' is "),
    "area of NaN": (of_first(area=math.nan), "annotation 1: 'area' is "),
    "iscrowd 2": (of_first(iscrowd=2), "annotation 1: iscrowd is 2"),
    "iscrowd of text": (of_first(iscrowd="no"), "annotation 1: 'iscrowd' is "),
    "num_keypoints of text": (of_first(num_keypoints="17"), "annotation 1: 'num_keypoints' is "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_give_a_wrong_number_is_refused_by_name(edited, name):
    change, words = REFUSED[name]
    path = edited(change)
    with pytest.raises(UserError, match=rf"^{path}: [^\n]*{words}") as refused:
        load_annotations(path)
    assert len(str(refused.value)) < 400, "a line that can be read"


def test_boxes_of_corners_beyond_their_photo(edited):
    """Of a single person too: as sizes they reach beyond the photo, as corners they fit."""
    def change(content):
        content["annotations"] = [{**content["annotations"][0], "bbox": [60, 50, 150, 110]}]  # of 160 x 120

    with pytest.raises(UserError, match="every bbox looks like left, top, right, bottom"):
        load_annotations(edited(change))


def test_people_whose_joints_are_not_on_their_photo_are_counted(edited, capfd):
    load_annotations(edited(of_first(keypoints=[500, 50, 2, 20, 50, 0] * 8 + [500, 50, 1])))
    assert "joints are all outside of their photo, as the annotations give its size: 1" in capfd.readouterr().err


def test_all_stages_refuse_before_they_begin(edited, work, own_coco, preprocess, postprocess, main, tmp_path):
    path = edited(of_first(keypoints=[1] * 42))
    dump = work / "results" / "all" / "000000000000_0.bin"
    dump.write_bytes(b"\xff" * dump.stat().st_size)  # NaN, which would be named first
    shutil.copy(path, annotations_path(own_coco))
    compare = ("compare", f"{work}/results/all", f"{work}/results/all", "--manifest",
               work / "prep_data" / "manifest.json", "--dataroot", own_coco)
    for refused in (preprocess("--gt_boxes"), postprocess("--annotations", path), main(*compare)):
        assert "annotation 1: has 14 joints" in one_error(refused)
    assert not (tmp_path / "out").exists() and not (work / "score").exists()


def test_ground_truth_boxes_of_a_person_category_alone(edited, whole):
    expected = ground_truth_boxes(load_annotations(whole))
    boxes = ground_truth_boxes(load_annotations(edited(other_category(90))))
    assert len(boxes) == PEOPLE and (boxes.bbox_xyxy == expected.bbox_xyxy).all()


def test_boxes_that_cannot_be_clipped(edited):
    path = edited(lambda content: [image.pop("width") for image in content["images"]] and None)
    with pytest.raises(UserError, match="photo 3 has no width and height"):
        ground_truth_boxes(load_annotations(path))


def test_a_score_needs_no_sizes_and_no_names(edited, whole):
    path = edited(lambda content: [[image.pop(key) for key in ("width", "height", "file_name")]
                                   for image in content["images"]] and None)
    assert perfect_score(path, whole) == pytest.approx(1)


def test_keypoints_without_annotations(coco, work, postprocess, main, tmp_path):
    """The folder of photos is there and nobody is annotated: everything but the score."""
    done(postprocess())
    options = ("postprocess", "--dump_dir", work / "results" / "all", "--dump_dir_flip", work / "results" / "all_flip",
               "--manifest", work / "prep_data" / "manifest.json", "--output")
    bare = main(*options, tmp_path / "bare", "--dataroot", tmp_path)
    chosen = main(*options, tmp_path / "chosen", "--dataroot", coco, "--no_score")
    assert "nothing is scored" in bare.stderr and "nothing is scored" not in chosen.stderr
    for finished, folder in ((bare, "bare"), (chosen, "chosen")):
        assert done(finished).count("\n") == 3 and "| 16 | - | - | - |" in finished.stdout
        assert (tmp_path / folder / "keypoints.json").read_text() == (work / "score" / "keypoints.json").read_text()
        assert json.loads((tmp_path / folder / "metrics.json").read_text())["metrics"] is None
    assert "no such annotations" in one_error(main(*options, tmp_path / "a", "--dataroot", tmp_path / "nowhere"))
    assert "no such annotations" in one_error(main(*options, tmp_path / "a", "--annotations", tmp_path / "no.json"))
