"""mmpose's boxes, crops and peaks, against numbers of mmpose 0.29.0 and 1.3.2 themselves (tests/golden/mmpose.py)."""
from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT
from golden import functions, mmpose

from pose.crops import crop_person
from pose.decoders import heatmaps_to_keypoints
from pose.geometry import GEOMETRIES
from pose.spec import PoseSpec

VERSIONS = ("0.x", "1.x")


@pytest.fixture(params=VERSIONS)
def version(request) -> str:
    return request.param


@pytest.fixture()
def golden(version) -> dict:
    with np.load(ROOT / "tests" / "golden" / f"mmpose_{version}.npz") as arrays:
        return {name: arrays[name] for name in ("center", "size", "crops", "none", "clean")}


def test_boxes_and_crops_are_mmposes(golden, version):
    height, width = functions.INPUT
    geometry = GEOMETRIES[f"mmpose-{version}"]
    centers, sizes = geometry.place(functions.boxes_xyxy(), width / height)
    np.testing.assert_allclose(centers, golden["center"], rtol=1e-7)
    np.testing.assert_allclose(sizes, golden["size"], rtol=1e-7)
    image = functions.photo()
    crops = [crop_person(image, *place, functions.INPUT, geometry.three_points) for place in zip(centers, sizes)]
    assert list(map(functions.sha256, crops)) == golden["crops"].tolist()


@pytest.mark.parametrize("flip", ["none", "clean"])
def test_keypoints_are_mmposes_at_every_border(golden, version, flip):
    name = f"mmpose-{version}"
    corners = GEOMETRIES[name].corners(*(golden[of][-mmpose.DECODED:] for of in ("center", "size")))
    normal, mirrored = (functions.heatmaps(mmpose.DECODED, seed) for seed in (3, 4))
    keypoints, scores = heatmaps_to_keypoints(normal, mirrored if flip == "clean" else None, corners,
                                              PoseSpec(geometry=name, decode=name))
    np.testing.assert_array_equal(scores, golden[flip][..., 2])
    np.testing.assert_allclose(keypoints, golden[flip][..., :2], rtol=0, atol=1e-4)
