"""AlphaPose's own functions on generated inputs, of tests/golden/functions.py: this project's give the same."""
from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import ROOT
from golden import functions
from test_alphapose_results import results, same
from test_pose_nms import people_of

from contract.pixels import ALPHAPOSE_MEAN, ALPHAPOSE_STD
from detection.decoding import Thresholds, select_people
from pose.boxes import box_to_center_scale, center_scale_to_xyxy
from pose.crops import Normalizer, crop_person
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import FLIP_SHIFTS, flip_back
from pose.oks import nms_per_photograph, rescore
from pose.pose_nms import pose_nms
from pose.poses import People
from pose.spec import PoseSpec

FOLDER = ROOT / "tests" / "golden"
FACTS = json.loads((FOLDER / "functions.json").read_text())
ARRAYS = dict(np.load(FOLDER / "functions.npz"))
ASPECT = functions.INPUT[1] / functions.INPUT[0]


def test_centers_scales_and_crop_boxes_of_odd_boxes():
    center, scale = box_to_center_scale(functions.boxes_xyxy(), ASPECT)
    np.testing.assert_array_equal(center, ARRAYS["center"])
    np.testing.assert_array_equal(scale, ARRAYS["scale"])
    np.testing.assert_allclose(center_scale_to_xyxy(center, scale), ARRAYS["crop_xyxy"], rtol=1e-6)


def test_crops_of_odd_boxes():
    normalize, image = Normalizer(ALPHAPOSE_MEAN, ALPHAPOSE_STD), functions.photo()
    crops = [normalize(crop_person(image, center, scale, functions.INPUT))
             for center, scale in zip(ARRAYS["center"], ARRAYS["scale"])]
    assert list(map(functions.sha256, crops)) == FACTS["crops"]


@pytest.mark.parametrize("shift", FLIP_SHIFTS)
def test_mirrored_heatmaps(shift):
    flipped = FLIP_SHIFTS[shift](flip_back(functions.heatmaps(8, 4)))
    assert functions.sha256(flipped) == FACTS["flips"][shift]


@pytest.mark.parametrize("shift", ["none", *FLIP_SHIFTS])
@pytest.mark.parametrize("decoder", ["gaussian", "softmax"])
def test_decoded_heatmaps(decoder, shift):
    spec = PoseSpec(decode="regression_softmax") if decoder == "softmax" else PoseSpec()
    normal, mirrored = functions.heatmaps(8, 3), functions.heatmaps(8, 4)
    keypoints, scores = heatmaps_to_keypoints(normal, None if shift == "none" else mirrored,
                                              ARRAYS["crop_xyxy"][-len(normal):], spec,
                                              "clean" if shift == "none" else shift)
    np.testing.assert_allclose(keypoints, ARRAYS[f"{decoder}_{shift}_keypoints"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(scores, ARRAYS[f"{decoder}_{shift}_scores"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", FACTS["oks"])
def test_people_kept_by_oks(case):
    seed, nms = case.split()
    crowd = functions.crowd(40, int(seed))
    joints = np.array([row["keypoints"] for row in crowd]).reshape(len(crowd), -1, 3)
    scores = rescore(joints[..., 2], np.array([row["score"] for row in crowd]))
    keep = nms_per_photograph(np.array([row["image_id"] for row in crowd]), joints[..., :2], scores,
                              np.array([row["area"] for row in crowd]), nms)
    assert [crowd[index]["uid"] for index in keep] == [uid for uid, _ in FACTS["oks"][case]]
    np.testing.assert_allclose(scores[keep], [score for _, score in FACTS["oks"][case]], rtol=1e-12)


def joined(seed: int) -> People:
    boxes, box_scores, keypoints, scores = functions.poses(14, seed)
    return pose_nms(people_of(boxes, box_scores, keypoints, scores), 3000 * (seed % 2))


@pytest.mark.parametrize("seed", range(4))
def test_people_joined_by_the_parametric_nms(seed):
    expected, found = FACTS["poses"][str(seed)], joined(seed)
    boxes, box_scores, keypoints, scores = functions.poses(14, seed)
    picked = people_of(boxes, box_scores, keypoints, scores).take(expected["picked"])
    np.testing.assert_array_equal(found.boxes_xywh, picked.boxes_xywh)
    assert found.merged.tolist() == expected["merged"]
    np.testing.assert_allclose(found.keypoints, expected["keypoints"], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", functions.FORMATS)
def test_result_files(form):
    same(results([(f"{seed}.jpg", joined(seed)) for seed in range(4)], form or "default"), FACTS["formats"][str(form)])


@pytest.mark.parametrize("number", FACTS["detector"])
def test_people_of_a_detectors_rows(number):
    found = select_people(functions.detector_rows(int(number), int(number))[0], Thresholds())
    np.testing.assert_allclose(found, np.array(FACTS["detector"][number]), rtol=0, atol=1e-4)
