"""The bundled model on the rendered test set, and what each mistake in the pipeline costs.

Every mistake below keeps the program running and gives a plausible number; the data set must tell it from the truth.
"""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import ROOT  # noqa: E402

from contract.manifest import Manifest, load_manifest  # noqa: E402
from demo.render import TEST_SEED, render  # noqa: E402
from demo.train import TRAIN_SEED, Batches, crops_to_input, joints_to_heatmaps  # noqa: E402
from networks.registry import load_network  # noqa: E402
from pose.coco_results import results_of  # noqa: E402
from pose.decoders import heatmaps_to_keypoints  # noqa: E402
from pose.heatmaps import find_peaks, flip_back  # noqa: E402
from pose.score import score_keypoints  # noqa: E402
from pose.spec import load_spec  # noqa: E402
from preprocess import preprocess  # noqa: E402

CONFIG = ROOT / "configs" / "demo_fastpose.yaml"
CHECKPOINT = ROOT / "demo" / "fastpose_small.pth"
IMAGES = 60
COSTS = 0.02  # AP that each mistake must lose at least


class Run(NamedTuple):
    """The test set, its crops (N, 3, H, W), and the heatmaps (N, K, h, w) of them and of their mirror images."""

    dataroot: Path
    manifest: Manifest
    crops: np.ndarray
    heatmaps: np.ndarray
    heatmaps_flip: np.ndarray


@pytest.fixture(scope="module")
def network():
    return load_network(load_spec(CONFIG), CHECKPOINT)


@pytest.fixture(scope="module")
def run(network, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("demo")
    render(folder / "data", IMAGES, TEST_SEED)
    preprocess(folder / "data", folder / "prep", folder / "prep_flip", load_spec(CONFIG),
               folder / "data" / "detections.json", workers=2)
    manifest = load_manifest(folder / "prep" / "manifest.json")
    crops, crops_flip = (read_bins(folder / name, manifest) for name in ("prep", "prep_flip"))
    return Run(folder / "data", manifest, crops, infer(network, crops), infer(network, crops_flip))


def read_bins(folder: Path, manifest: Manifest) -> np.ndarray:
    return np.stack([np.fromfile(folder / name, np.float32) for name in manifest.bin_names]).reshape(-1, 3, 256, 192)


def infer(network, crops: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate([network(batch).numpy() for batch in torch.from_numpy(crops).split(32)])


def average_precision(run: Run, heatmaps: np.ndarray, heatmaps_flip: np.ndarray) -> float:
    keypoints, scores = heatmaps_to_keypoints(heatmaps, heatmaps_flip, run.manifest["crop_xyxy"], load_spec(CONFIG))
    return score_keypoints(run.dataroot, results_of(run.manifest, keypoints, scores), None)["AP"]


@pytest.fixture(scope="module")
def ap(run) -> float:
    return average_precision(run, run.heatmaps, run.heatmaps_flip)


def test_ap_with_flip_test(ap):
    assert ap >= 0.90


def test_flip_test_gains(run, ap):
    assert 0.85 < average_precision(run, run.heatmaps, None) < ap


def test_leaving_out_the_joint_swap_costs(run, ap):
    swapped_before = flip_back(run.heatmaps_flip)[..., ::-1]  # so that flip_back swaps them back
    assert average_precision(run, run.heatmaps, swapped_before) < ap - COSTS


def test_swapping_red_and_blue_costs(network, run, ap):
    mean = np.array(load_spec(CONFIG).mean, np.float32).reshape(3, 1, 1)
    swapped = np.ascontiguousarray((run.crops + mean)[:, ::-1] - mean)
    flipped = np.ascontiguousarray(swapped[..., ::-1])
    assert average_precision(run, infer(network, swapped), infer(network, flipped)) < ap - COSTS


@pytest.mark.parametrize("which", ["both", "mirrored"])
def test_shifting_the_file_order_by_one_costs(run, ap, which):
    shifted = np.roll(run.heatmaps_flip, 1, axis=0)
    heatmaps = np.roll(run.heatmaps, 1, axis=0) if which == "both" else run.heatmaps
    assert average_precision(run, heatmaps, shifted) < ap - COSTS


def test_leaving_out_the_mirroring_costs(run, ap):
    assert average_precision(run, run.heatmaps, run.heatmaps) < ap - COSTS


def test_checkpoint_is_small_and_float32():
    assert CHECKPOINT.stat().st_size <= 6_000_000
    weights = torch.load(CHECKPOINT, weights_only=True)
    assert not any(key.startswith("module.") for key in weights)
    assert {value.dtype for key, value in weights.items() if not key.endswith("tracked")} == {torch.float32}


def test_training_and_test_pictures_have_different_seeds():
    assert TRAIN_SEED != TEST_SEED


def test_training_targets_peak_where_the_joints_are():
    """Decoding a target gives the joint back to a quarter heatmap pixel, which is one crop pixel."""
    config = load_spec(CONFIG)
    joints = torch.from_numpy(np.random.default_rng(0).uniform(16, 170, (5, 17, 2)).astype(np.float32))
    positions, scores = find_peaks(joints_to_heatmaps(joints, config).numpy())
    assert np.abs(positions * 4 - joints.numpy()).max() <= 1.01
    assert (scores > 0.9).all()


def test_batches_are_functions_of_their_number():
    batches = Batches(load_spec(CONFIG), steps=3)
    crops, joints, weights = batches[1]
    assert all(np.array_equal(one, other) for one, other in zip((crops, joints, weights), batches[1]))
    assert not np.array_equal(crops[0], batches[2][0][0])
    assert crops.shape[1:] == (256, 192, 3) and joints.shape == (len(crops), 17, 2)
    inside = ((joints >= 0) & (joints < [192, 256])).all(axis=2)
    assert inside[weights > 0].all() and weights.mean() > 0.5
    tensor = crops_to_input(torch.from_numpy(crops), load_spec(CONFIG))
    assert tensor.shape == (len(crops), 3, 256, 192) and torch.isfinite(tensor).all()
