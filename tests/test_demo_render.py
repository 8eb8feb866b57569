"""The rendered data set: the same bytes for the same seed, valid COCO annotations, left and right as in life."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from demo import render as render_module
from demo.figures import Person, turn
from demo.render import TEST_SEED, render
from demo.scenes import render_scene
from pose.coco import load_detections
from pose.crops import read_photograph
from pose.skeleton import COCO17

IMAGES = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    render(folder, IMAGES, TEST_SEED)
    return folder


@pytest.fixture(scope="module")
def truth(data) -> COCO:
    return COCO(str(data / "annotations" / "person_keypoints_val2017.json"))


def contents(folder: Path) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes(data, tmp_path):
    render(tmp_path, IMAGES, TEST_SEED)
    assert contents(tmp_path) == contents(data)
    assert len(contents(data)) == IMAGES + 3


def test_other_seed_other_pictures(data, tmp_path):
    render(tmp_path, 2, TEST_SEED + 1)
    for name in ("000000000001.jpg", "000000000002.jpg"):
        assert (tmp_path / "val2017" / name).read_bytes() != (data / "val2017" / name).read_bytes()


def test_pictures_of_a_smaller_set_are_the_first_of_a_larger(data, tmp_path):
    render(tmp_path, 3, TEST_SEED)
    assert all((data / "val2017" / path.name).read_bytes() == path.read_bytes()
               for path in (tmp_path / "val2017").iterdir())


def test_a_whole_set_is_kept_and_another_one_replaces_it(data, tmp_path, monkeypatch, capsys):
    render(tmp_path, 2, TEST_SEED)
    with monkeypatch.context() as patch:
        patch.setattr(render_module, "render_scene", None)  # would fail if it were called
        render(tmp_path, 2, TEST_SEED)
    assert "already there" in capsys.readouterr().out
    render(tmp_path, 2, TEST_SEED + 1)
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == TEST_SEED + 1


@pytest.mark.parametrize("name", ["val2017/000000000002.jpg", "detections.json"])
def test_a_set_with_a_damaged_or_missing_file_is_not_kept(data, tmp_path, name):
    render(tmp_path, IMAGES, TEST_SEED)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    render(tmp_path, IMAGES, TEST_SEED)
    assert contents(tmp_path) == contents(data)
    (tmp_path / name).unlink()
    render(tmp_path, IMAGES, TEST_SEED)
    assert contents(tmp_path) == contents(data)


def test_stopped_and_run_again_equals_uninterrupted(data, tmp_path, monkeypatch):
    def stop_at_fifth(seed):
        if seed[-1] == 5:
            raise KeyboardInterrupt
        return render_scene(seed)

    with monkeypatch.context() as patch:
        patch.setattr(render_module, "render_scene", stop_at_fifth)
        with pytest.raises(KeyboardInterrupt):
            render(tmp_path, IMAGES, TEST_SEED)
    assert not (tmp_path / "settings.json").exists()
    render(tmp_path, IMAGES, TEST_SEED)
    assert contents(tmp_path) == contents(data)


def test_images_are_as_annotated(data, truth):
    assert len(truth.imgs) == IMAGES
    for image in truth.imgs.values():
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        assert read_photograph(data / "val2017" / image["file_name"]).shape == (image["height"], image["width"], 3)


def test_keypoints_lie_in_box_and_picture_and_are_counted(truth):
    people = list(truth.anns.values())
    assert len(people) >= IMAGES and len({person["id"] for person in people}) == len(people)
    for person in people:
        image = truth.imgs[person["image_id"]]
        x, y, width, height = person["bbox"]
        joints = np.array(person["keypoints"]).reshape(17, 3)
        labelled = joints[joints[:, 2] > 0]
        assert set(joints[:, 2]) <= {0, 1, 2} and not joints[joints[:, 2] == 0].any()
        assert person["num_keypoints"] == len(labelled) >= 3 and person["iscrowd"] == 0
        assert (labelled[:, :2] >= [x - 1, y - 1]).all() and (labelled[:, :2] <= [x + width + 1, y + height + 1]).all()
        assert x >= 0 and y >= 0 and x + width <= image["width"] and y + height <= image["height"]
        assert 0.1 * width * height < person["area"] < width * height


def test_category_is_cocos(truth, shared):
    ours = truth.loadCats([1])[0]
    theirs = json.loads((shared / "data" / "coco_mini" / "annotations" / "person_keypoints_val2017.json").read_text())
    theirs = theirs["categories"][0]
    assert ours["keypoints"] == theirs["keypoints"]
    assert {frozenset(bone) for bone in ours["skeleton"]} == {frozenset(bone) for bone in theirs["skeleton"]}


def test_some_joints_are_hidden_and_some_outside(truth):
    visibility = np.array([person["keypoints"][2::3] for person in truth.anns.values()])
    shares = np.bincount(visibility.ravel(), minlength=3) / visibility.size
    assert shares[2] > 0.5 and shares[1] > 0.05 and shares[0] > 0.05


def test_detections_hold_near_boxes_duplicates_and_false_ones(data, truth):
    detections = load_detections(data / "detections.json")
    assert (detections.bbox_xywh[:, 2:] > 0).all() and ((0 < detections.scores) & (detections.scores < 1)).all()
    best = np.array([best_overlap(box, [person["bbox"] for person in truth.imgToAnns[int(image_id)]])
                     for image_id, box in zip(detections.image_ids, detections.bbox_xywh)])
    assert len(detections) > len(truth.anns)
    assert 0.5 < (best > 0.6).mean() and (best < 0.3).any()
    assert (best < 0.999).all()  # none is the annotation itself
    assert np.corrcoef(best, detections.scores)[0, 1] > 0.5


def best_overlap(box: np.ndarray, others: list) -> float:
    """Highest intersection over union."""
    others = np.array(others)
    low = np.maximum(box[:2], others[:, :2])
    sides = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]) - low
    common = np.maximum(sides, 0).prod(axis=1)
    return float((common / (box[2:].prod() + others[:, 2:].prod(axis=1) - common)).max())


@pytest.mark.parametrize("yaw, left_is_at_the_right", [(0, True), (20, True), (180, False), (200, False)])
def test_left_of_people_who_face_us_is_at_our_right(yaw, left_is_at_the_right):
    for seed in range(20):
        joints = projected(seed, yaw)
        for left, right in ((5, 6), (11, 12)):
            assert (joints[left, 0] > joints[right, 0]) == left_is_at_the_right


def test_the_nose_points_to_where_the_body_does():
    """Who looks to the right of the picture (yaw 90) has the right shoulder nearer to us."""
    for seed in range(20):
        joints = projected(seed, 90)
        assert joints[0, 0] > joints[[3, 4], 0].mean()
        assert joints[6, 2] > joints[5, 2]


def projected(seed: int, yaw: float) -> np.ndarray:
    person = Person(np.random.default_rng(seed))
    person.project(turn(yaw, 0, 0), 200, (100, 100))
    return person.keypoints()


def test_left_and_right_have_no_colours_of_their_own():
    """What is worn on both sides has one colour, so only the shape tells the sides apart."""
    for seed in range(20):
        colors = {}
        for part in Person(np.random.default_rng(seed)).parts:
            if part.joints and not part.flat:
                colors.setdefault(part.joints, set()).add(part.color)
        for left, right in COCO17.pairs:
            of_side = [{color for joints, these in colors.items() if COCO17.joints[side] in joints for color in these}
                       for side in (left, right)]
            assert len(of_side[0] ^ of_side[1]) <= 1  # a watch
