"""AlphaPose's own numbers on the demo's photos, of tests/golden/make.py: crops, heatmaps, keypoints, AP are equal."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Dict, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the heatmaps are the network's in torch")

from conftest import ROOT  # noqa: E402
from golden.make import CHECKPOINT, figures_of, widened  # noqa: E402

from contract.manifest import Manifest  # noqa: E402
from demo.render import render  # noqa: E402
from networks.checkpoint import read_state_dict  # noqa: E402
from networks.fastpose import FastPose  # noqa: E402
from networks.registry import load_network  # noqa: E402
from pose.coco_results import results_of  # noqa: E402
from pose.decoders import heatmaps_to_keypoints  # noqa: E402
from pose.score import score_keypoints  # noqa: E402
from pose.spec import load_spec  # noqa: E402
from preprocess import preprocess  # noqa: E402

FOLDER = ROOT / "tests" / "golden"
GOLDEN = json.loads((FOLDER / "alphapose.json").read_text())
SPEC = load_spec(ROOT / "configs" / "demo_fastpose.yaml")
BOXES, FLIPS = ("annotated", "detected"), ("", "_flip")


class Ours(NamedTuple):
    """The rendered photos, and for each kind of boxes its manifest and, normal and mirrored, crops and heatmaps."""

    dataroot: Path
    manifests: Dict[str, Manifest]
    crops: Dict[str, Dict[str, np.ndarray]]
    heatmaps: Dict[str, Dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Ours:
    folder = tmp_path_factory.mktemp("original")
    render(folder / "data", GOLDEN["photos"], GOLDEN["seed"])
    network, made = load_network(SPEC, CHECKPOINT), Ours(folder / "data", {}, {}, {})
    for boxes in BOXES:
        outputs = [folder / f"{boxes}{flip}" for flip in FLIPS]
        detections = made.dataroot / "detections.json" if boxes == "detected" else None
        made.manifests[boxes] = preprocess(made.dataroot, *outputs, SPEC, detections)
        names = made.manifests[boxes].bin_names
        made.crops[boxes] = {flip: np.stack([np.fromfile(output / name, np.float32).reshape(SPEC.input_shape)
                                             for name in names]) for flip, output in zip(FLIPS, outputs)}
        with torch.inference_mode():
            made.heatmaps[boxes] = {flip: network(torch.from_numpy(crops)).numpy()
                                    for flip, crops in made.crops[boxes].items()}
    return made


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("boxes", BOXES)
def test_crops_are_equal(ours, boxes, flip):
    digests = [hashlib.sha256(crop.tobytes()).hexdigest() for crop in ours.crops[boxes][flip]]
    assert digests == GOLDEN["crops"][boxes][flip]


@pytest.mark.parametrize("flip", FLIPS)
def test_heatmaps_are_equal(ours, flip):
    heatmaps, figures = ours.heatmaps["detected"][flip], figures_of(ours.heatmaps["detected"][flip])
    with np.load(FOLDER / "heatmaps.npz") as golden:
        whole = golden[f"heatmaps{flip}"]
        np.testing.assert_allclose(heatmaps[:len(whole)], whole, rtol=0, atol=1e-4)
        np.testing.assert_allclose(figures["max"], golden[f"max{flip}"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(figures["mean"], golden[f"mean{flip}"], rtol=0, atol=1e-5)
        assert (figures["argmax"] == golden[f"argmax{flip}"]).mean() >= 0.999  # of two equal peaks either may win


def results(ours: Ours, boxes: str, shift: str) -> list:
    manifest, heatmaps = ours.manifests[boxes], ours.heatmaps[boxes]
    keypoints, scores = heatmaps_to_keypoints(*heatmaps.values(), manifest["crop_xyxy"], SPEC, shift)
    return results_of(manifest, keypoints, scores)


def by_photo(rows: list) -> tuple:
    """Ids (N,), scores (N,), keypoints (N, 17, 3); people of a photo by descending score."""
    rows = sorted(rows, key=lambda row: (row["image_id"], -row["score"]))
    return (np.array([row["image_id"] for row in rows]), np.array([row["score"] for row in rows]),
            np.array([row["keypoints"] for row in rows]).reshape(-1, 17, 3))


@pytest.mark.parametrize("shift", ["clean", "original"])
@pytest.mark.parametrize("boxes", BOXES)
def test_people_and_ap_are_equal(ours, boxes, shift):
    """After the flip test, the decoding and the NMS; AlphaPose's shift, with its overlapping copy, too."""
    found = results(ours, boxes, shift)
    (ids, scores, keypoints), (their_ids, their_scores, theirs) = map(by_photo,
                                                                      (found, GOLDEN["keypoints"][shift][boxes]))
    np.testing.assert_array_equal(ids, their_ids)
    np.testing.assert_allclose(scores, their_scores, rtol=0, atol=1e-4)
    assert (np.abs(keypoints - theirs)[..., :2].max(axis=2) <= 1e-3).mean() >= 0.999
    np.testing.assert_allclose(keypoints[..., 2], theirs[..., 2], rtol=0, atol=1e-4)
    assert score_keypoints(ours.dataroot, found, None)["AP"] == pytest.approx(GOLDEN["AP"][shift][boxes], abs=1e-4)


def test_the_golden_numbers_tell_the_shifts_and_boxes_apart():
    values = [json.dumps(GOLDEN["keypoints"][shift][boxes]) for shift in ("clean", "original") for boxes in BOXES]
    assert len(set(values)) == 4
    assert all(0.85 < value < 0.99 for of_boxes in GOLDEN["AP"].values() for value in of_boxes.values())


def test_the_widened_network_is_the_demos():
    """AlphaPose ran the demo's weights in a network of full width: that it computes the same is shown here."""
    wide = FastPose().eval()
    wide.load_state_dict(widened(read_state_dict(CHECKPOINT)))
    crop = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32))
    narrow = load_network(SPEC, CHECKPOINT)
    with torch.inference_mode():
        np.testing.assert_allclose(wide(crop).numpy(), narrow(crop).numpy(), rtol=0, atol=1e-5)
