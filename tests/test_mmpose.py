"""mmpose's boxes, crops and peaks, against numbers of mmpose v0.29.0 and v1.3.2 themselves."""
from __future__ import annotations

import hashlib
import json

import cv2
import numpy as np
import pytest

from pose.boxes import center_scale_to_xyxy
from pose.crops import get_affine, positions_to_image, read_photograph
from pose.heatmaps import flip_back, shift_clean
from pose.mmpose import (
    box_to_center_scale_0x,
    box_to_center_scale_1x,
    find_peaks_0x,
    find_peaks_1x,
    get_affine_1x,
)

SIZE, HEATMAP = (256, 256), (64, 64)
BOXES = {"0x": box_to_center_scale_0x, "1x": box_to_center_scale_1x}
AFFINES = {"0x": get_affine, "1x": get_affine_1x}
PEAKS = {"0x": find_peaks_0x, "1x": find_peaks_1x}


@pytest.fixture(scope="module")
def crops(shared) -> list:
    return json.loads((shared / "golden/wave2/hourglass_crops.json").read_text())


@pytest.fixture(scope="module")
def decoded(shared) -> dict:
    with np.load(shared / "golden/wave2/hourglass_decode.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def heatmaps(shared) -> dict:
    with np.load(shared / "golden/wave2/hourglass_heatmaps.npz") as arrays:
        return dict(arrays)


def warp(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(image, affine, SIZE[::-1], flags=cv2.INTER_LINEAR)


def boxes_of(crops: list, version: str) -> tuple:
    xywh = np.array([case["bbox_xywh"] for case in crops])
    return BOXES[version](np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1), 1.0)


@pytest.mark.parametrize("version", ["0x", "1x"])
def test_boxes_and_matrices_are_mmposes(crops, version):
    for case, center, scale in zip(crops, *boxes_of(crops, version)):
        expected = case[f"mmpose_{version}"]
        np.testing.assert_allclose(center, expected["center"], rtol=1e-7)
        np.testing.assert_allclose(scale, expected["size_px"], rtol=1e-7)
        np.testing.assert_allclose(AFFINES[version](center, scale, SIZE), expected["matrix"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("version", ["0x", "1x"])
def test_crops_are_mmposes_to_the_byte(shared, crops, version):
    for case, center, scale in zip(crops, *boxes_of(crops, version)):
        image = read_photograph(shared / "data/coco_mini/val2017" / case["file"])
        crop = warp(image, AFFINES[version](center, scale, SIZE))
        assert hashlib.sha256(crop.tobytes()).hexdigest() == case[f"mmpose_{version}"]["crop_rgb_u8_sha256"]


@pytest.mark.parametrize("version", ["0x", "1x"])
def test_peaks_are_mmposes_at_every_border(crops, decoded, version):
    positions, scores = PEAKS[version](decoded["synth_f16"].astype(np.float32)[None])
    assert (scores[0] == decoded["synth_scores"]).all()
    if version == "1x":
        assert (positions[0] == decoded["synth_refined_heatmap_1x"]).all()
    corners = center_scale_to_xyxy(*boxes_of(crops, version))
    placed = positions_to_image(np.repeat(positions, len(corners), axis=0), corners, HEATMAP)
    np.testing.assert_allclose(placed, decoded[f"synth_coords_{version}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("version", ["0x", "1x"])
@pytest.mark.parametrize("flip", ["noflip", "flip"])
def test_real_heatmaps_decode_as_in_mmpose(crops, decoded, heatmaps, version, flip):
    values = decoded["real_heatmaps_f16"].astype(np.float32)
    if flip == "flip":
        mirrored = heatmaps["heatmaps_of_mirrored_crop_f16"].astype(np.float32)
        values = (values + shift_clean(flip_back(mirrored))) / np.float32(2)
    positions, scores = PEAKS[version](values)
    assert (scores == decoded[f"real_{flip}_scores"]).all()
    placed = positions_to_image(positions, center_scale_to_xyxy(*boxes_of(crops[:1], version)), HEATMAP)
    np.testing.assert_allclose(placed, decoded[f"real_{flip}_coords_{version}"], rtol=0, atol=1e-4)


def test_the_flip_shift_is_clean(shared, heatmaps):
    digests = json.loads((shared / "golden/wave2/hourglass_flip_sha256.json").read_text())["s0"]
    shifted = shift_clean(flip_back(heatmaps["heatmaps_of_mirrored_crop_f16"].astype(np.float32)))
    assert hashlib.sha256(np.ascontiguousarray(shifted).tobytes()).hexdigest() == digests["flipped_and_shifted"]
