"""The estimator in memory and the stages through files give the same people, to the last digit."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, done

from contract.errors import UserError
from demo.render import TEST_SEED, render
from pose.photos import read_photograph
from prediction.estimator import Estimator

pytest.importorskip("onnxruntime")
CFG, CHECKPOINT = ROOT / "configs" / "demo_fastpose.yaml", ROOT / "demo" / "fastpose_small.pth"
YOLO_CFG, YOLO_WEIGHTS = ROOT / "configs" / "demo_yolov3_tiny.cfg", ROOT / "demo" / "yolov3_demo.weights"
IMAGES = 3


@pytest.fixture(scope="module")
def demo(tmp_path_factory, script) -> Path:
    """Photos of the demo, its network for batches of 4, and the people that the stages find, in keypoints.json."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("demo")
    data, prep, dumps = folder / "data", folder / "prep", folder / "dumps"
    render(data, IMAGES, TEST_SEED)
    done(script("pth2onnx.py", CFG, CHECKPOINT, folder / "pose.onnx", "--batch", 4))
    done(script("preprocess.py", "--dataroot", data, "--weights", YOLO_WEIGHTS, "--yolo_cfg", YOLO_CFG, "--cfg", CFG,
                "--output", prep, "--output_flip", f"{prep}_flip"))
    for flip in ("", "_flip"):
        done(script("infer.py", "--model", folder / "pose_bs4.onnx", "--input", f"{prep}{flip}", "--output", folder,
                    "--output_dirname", f"dumps{flip}"))
    done(script("postprocess.py", "--dataroot", data, "--manifest", prep / "manifest.json", "--dump_dir", dumps,
                "--dump_dir_flip", f"{dumps}_flip", "--output", folder / "score"))
    return folder


@pytest.fixture(scope="module")
def estimator(demo):
    with Estimator(CFG, demo / "pose_bs4.onnx", detector=YOLO_WEIGHTS, yolo_cfg=YOLO_CFG) as opened:
        yield opened


@pytest.fixture(scope="module")
def images(demo) -> list:
    return [read_photograph(path) for path in sorted((demo / "data" / "val2017").glob("*.jpg"))]


def rows_of(people) -> list:
    """As keypoints.json holds them."""
    joints = np.concatenate([people.keypoints, people.scores[..., None]], axis=2)
    return [(box, joint) for box, joint in zip(people.boxes_xywh.tolist(), joints.reshape(len(people), -1).tolist())]


def test_both_ways_give_the_same_people(demo, estimator, images):
    results = json.loads((demo / "score" / "keypoints.json").read_text())
    through_files = [(result["bbox"], result["keypoints"]) for result in results]
    in_memory = [row for image in images for row in rows_of(estimator(image))]
    assert len(in_memory) > IMAGES and in_memory == through_files


def test_the_people_of_an_image_do_not_depend_on_the_others(estimator, images):
    blank = np.full((90, 120, 3), 200, np.uint8)
    together = estimator.each([images[0], blank, *images[1:]])
    assert len(together[1]) == 0 and together[1].keypoints.shape == (0, 17, 2)
    alone = [estimator(image) for image in images]
    assert [rows_of(people) for people in (together[0], *together[2:])] == [rows_of(people) for people in alone]
    assert estimator.each([]) == []


def test_boxes_of_another_detector(demo, images):
    """Those of the detections file, one image at a time."""
    detections = json.loads((demo / "detections.json").read_text())
    first = min(detection["image_id"] for detection in detections)
    of_first = [detection for detection in detections if detection["image_id"] == first]
    boxes = np.array([one["bbox"] for one in of_first]), np.array([one["score"] for one in of_first])
    results = json.loads((demo / "score" / "keypoints.json").read_text())
    expected = [(result["bbox"], result["keypoints"]) for result in results if result["image_id"] == first]
    with Estimator(CFG, demo / "pose_bs4.onnx") as without:
        assert rows_of(without(images[0], boxes)) == expected
        with pytest.raises(UserError, match="either a detector or"):
            without(images[0])


@pytest.mark.parametrize("image", [np.zeros((9, 9)), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9, 3), np.uint8),
                                   np.zeros((9, 9, 3), np.float32)])
def test_what_is_no_image_is_refused(estimator, image):
    with pytest.raises(UserError, match=r"uint8 \(H, W, 3\)"):
        estimator(image)


def test_a_model_of_another_config_is_refused(demo, small_cfg):
    with pytest.raises(UserError, match="the config says"):
        Estimator(small_cfg, demo / "pose_bs4.onnx")
