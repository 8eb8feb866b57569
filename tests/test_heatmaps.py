"""Heatmaps: recorded outputs of AlphaPose, torch's own overlapping copy, and loops that follow the rules."""
from __future__ import annotations

import hashlib
import json

import cv2
import numpy as np
import pytest

from pose.boxes import positions_to_image
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import FLIP_SHIFTS, expected_positions, find_peaks, flip_back, shift_clean, shift_original
from pose.spec import PoseSpec

PAIRS = {0: 0, **{left: left + 1 for left in range(1, 17, 2)}, **{right: right - 1 for right in range(2, 17, 2)}}
READINGS = {"noflip": None, "flip_clean": "clean", "flip_asrun": "original"}  # golden name -> --flip_shift
BOX = np.array([[81.25, 25, 268.75, 275]], np.float32)


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def random_heatmaps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def peak_by_loops(heatmap: np.ndarray) -> tuple:
    """(x, y, score) of one (h, w) heatmap, by AlphaPose's rules."""
    height, width = heatmap.shape
    best_x = best_y = 0
    for y in range(height):
        for x in range(width):
            if heatmap[y, x] > heatmap[best_y, best_x]:
                best_x, best_y = x, y
    score = heatmap[best_y, best_x]
    if score <= 0:
        return 0.0, 0.0, score
    x, y = float(best_x), float(best_y)
    if 1 < best_x < width - 1 and 1 < best_y < height - 1:
        right, left = heatmap[best_y, best_x + 1], heatmap[best_y, best_x - 1]
        below, above = heatmap[best_y + 1, best_x], heatmap[best_y - 1, best_x]
        x += 0.25 if right > left else -0.25 if right < left else 0
        y += 0.25 if below > above else -0.25 if below < above else 0
    return x, y, score


def to_image_by_opencv(x: float, y: float, box: np.ndarray) -> np.ndarray:
    """A point of a 64x48 heatmap in the photograph, by the affine of three point pairs."""
    x1, y1, x2, y2 = map(float, box)
    cx, cy, half = x1 + (x2 - x1) / 2, y1 + (y2 - y1) / 2, (x2 - x1) / 2
    raster = np.array([[24, 32], [24, 8], [0, 8]], np.float32)
    photograph = np.array([[cx, cy], [cx, cy - half], [cx - half, cy - half]], np.float32)
    return cv2.getAffineTransform(raster, photograph) @ [x, y, 1]


@pytest.fixture(scope="module")
def golden(shared) -> dict:
    arrays = dict(np.load(shared / "golden" / "decode.npz"))
    arrays["boxes"] = np.load(shared / "golden" / "crops.npz")["crop_bbox_f32"]
    arrays["normal"], arrays["mirrored"] = (arrays[key].astype(np.float32)
                                            for key in ("heatmap_f16", "heatmap_flipinput_f16"))
    return arrays


def test_flips_are_alphaposes_by_sha256(shared, golden):
    digests = json.loads((shared / "golden" / "flip_sha256.json").read_text())
    flipped = flip_back(golden["mirrored"])
    for name, heatmaps in (("noshift", flipped), ("clean", shift_clean(flipped)), ("asrun", shift_original(flipped))):
        assert [sha256(heatmap) for heatmap in heatmaps] == digests[f"flip_{name}_sha256"], name


@pytest.mark.parametrize("reading", READINGS)
def test_decoded_keypoints_are_alphaposes(golden, reading):
    shift = READINGS[reading]
    keypoints, scores = heatmaps_to_keypoints(golden["normal"], golden["mirrored"] if shift else None,
                                              golden["boxes"], PoseSpec(), shift or "clean")
    assert keypoints.dtype == scores.dtype == np.float32
    np.testing.assert_array_equal(scores, golden[f"scores_{reading}"][..., 0])
    np.testing.assert_allclose(keypoints, golden[f"coords_{reading}"], rtol=0, atol=1e-4)


def test_peaks_before_the_quarter_step_are_alphaposes(golden):
    positions, _ = find_peaks(golden["normal"])
    assert np.abs(positions - golden["argmax_xy_noflip"]).max() in (0, 0.25)


def test_synthetic_heatmaps_decode_exactly(shared):
    golden = np.load(shared / "golden" / "decode_synth.npz")
    positions, scores = find_peaks(golden["heatmap_f32"][None])
    np.testing.assert_array_equal(scores, golden["scores"][..., 0])
    np.testing.assert_allclose(positions_to_image(positions, golden["crop_bbox_f32"], (64, 48)), golden["coords"],
                               rtol=0, atol=1e-4)


def test_flip_back_mirrors_and_swaps_left_and_right():
    heatmaps = random_heatmaps(2, 17, 5, 4)
    flipped = flip_back(heatmaps)
    for joint, other in PAIRS.items():
        for x in range(4):
            np.testing.assert_array_equal(flipped[:, joint, :, x], heatmaps[:, other, :, 3 - x])


@pytest.mark.parametrize("shape", [(2, 17, 64, 48), (1, 17, 16, 12), (17, 3, 1)])
def test_the_clean_shift_moves_one_column_to_the_right(shape):
    flipped = random_heatmaps(*shape)
    shifted = shift_clean(flipped)
    np.testing.assert_array_equal(shifted[..., 0], flipped[..., 0])
    np.testing.assert_array_equal(shifted[..., 1:], flipped[..., :-1])


def test_the_original_shift_smears_as_documented():
    flipped = random_heatmaps(1, 17, 64, 48)
    shifted = shift_original(flipped)
    source = [0, *range(0, 16), 15, *range(17, 32), *[31] * 15]
    np.testing.assert_array_equal(shifted, flipped[..., source])


@pytest.mark.parametrize("width", [1, 2, 12, 15, 16, 17, 18, 24, 32, 33, 34, 36, 48, 49, 72, 96, 192])
def test_the_original_shift_is_what_torch_does(width):
    torch = pytest.importorskip("torch")
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("torch copies in blocks of 16 on x86 with AVX2 only")
    flipped = random_heatmaps(1, 17, 8, width)
    overlapping = torch.from_numpy(flipped.copy())
    overlapping[..., 1:] = overlapping[..., :-1]
    np.testing.assert_array_equal(shift_original(flipped), overlapping.numpy())


@pytest.mark.parametrize("shift", FLIP_SHIFTS)
def test_shifts_and_flips_leave_their_input_alone(shift):
    heatmaps = random_heatmaps(2, 17, 64, 48)
    before = heatmaps.copy()
    FLIP_SHIFTS[shift](flip_back(heatmaps))
    heatmaps_to_keypoints(heatmaps, heatmaps, np.repeat(BOX, 2, axis=0), PoseSpec(), shift)
    np.testing.assert_array_equal(heatmaps, before)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["noise", "few levels", "negative", "corners"])
def test_peaks_are_those_of_slow_loops(kind, seed):
    rng = np.random.default_rng(seed)
    heatmaps = {"noise": lambda: rng.standard_normal((3, 17, 8, 6)),
                "few levels": lambda: rng.integers(-1, 3, (3, 17, 8, 6)),  # ties everywhere
                "negative": lambda: rng.integers(-3, 1, (3, 17, 8, 6)),
                "corners": lambda: rng.random((3, 17, 8, 6)) * (rng.random((3, 17, 8, 6)) > 0.9)}[kind]()
    heatmaps = heatmaps.astype(np.float32)
    positions, scores = find_peaks(heatmaps)
    for person in range(3):
        for joint in range(17):
            expected = peak_by_loops(heatmaps[person, joint])
            assert (*positions[person, joint], scores[person, joint]) == expected


def test_a_peak_at_every_place_of_a_heatmap():
    height, width = 64, 48
    heatmaps = np.full((1, height * width, height, width), 0.1, np.float32)
    places = np.arange(height * width)
    heatmaps[0, places, places // width, places % width] = 1
    heatmaps[0, :-1, -1, -1] = 0.2  # a slope, so that some peaks move
    positions, scores = find_peaks(heatmaps)
    assert (scores == 1).all()
    for place in range(0, height * width, 7):
        assert tuple(positions[0, place]) == peak_by_loops(heatmaps[0, place])[:2]


@pytest.mark.parametrize("box", [(81.25, 25, 268.75, 275), (-40.5, -33.3, 20.1, 47.5), (500, 400, 500, 400),
                                 (30, 30, 10, 5), (0, 0, 3000, 4000)])
def test_positions_in_the_photograph_are_those_of_the_affine(box):
    box = np.array([box], np.float32)
    positions = np.array([[(0, 0), (24, 32), (47, 63), (2.25, 61.75), (46.25, 2)]], np.float32)
    keypoints = positions_to_image(positions, box, (64, 48))
    for position, keypoint in zip(positions[0], keypoints[0]):
        np.testing.assert_allclose(keypoint, to_image_by_opencv(*position, box[0]), rtol=1e-6, atol=1e-4)


def test_fusion_is_the_mean_before_the_peak():
    normal, mirrored = random_heatmaps(2, 17, 64, 48, seed=1), random_heatmaps(2, 17, 64, 48, seed=2)
    boxes = np.repeat(BOX, 2, axis=0)
    keypoints, scores = heatmaps_to_keypoints(normal, mirrored, boxes, PoseSpec())
    for person in range(2):
        for joint in range(17):
            back = mirrored[person, PAIRS[joint], :, ::-1]
            back = np.concatenate([back[:, :1], back[:, :-1]], axis=1)
            x, y, score = peak_by_loops((normal[person, joint] + back) / np.float32(2))
            assert scores[person, joint] == score
            np.testing.assert_allclose(keypoints[person, joint], to_image_by_opencv(x, y, BOX[0]), atol=1e-4)


def test_a_symmetric_person_keeps_its_keypoints_under_the_flip_test():
    """Mirrored heatmaps of a network that is perfectly symmetric, at columns that the shift aligns."""
    normal = np.zeros((1, 17, 64, 48), np.float32)
    for joint in range(17):
        normal[0, joint, 20 + joint, 5 + 2 * joint] = 1
    mirrored = np.zeros_like(normal)
    for joint, other in PAIRS.items():
        mirrored[0, other, 20 + joint, 48 - (5 + 2 * joint)] = 1
    without, _ = heatmaps_to_keypoints(normal, None, BOX, PoseSpec())
    with_flip, scores = heatmaps_to_keypoints(normal, mirrored, BOX, PoseSpec())
    np.testing.assert_array_equal(with_flip, without)
    assert (scores == 1).all()


def test_one_person_at_a_time_is_the_same_as_all_at_once():
    normal, mirrored = random_heatmaps(7, 17, 64, 48, seed=3), random_heatmaps(7, 17, 64, 48, seed=4)
    boxes = BOX + np.arange(7, dtype=np.float32)[:, None]
    keypoints, scores = heatmaps_to_keypoints(normal, mirrored, boxes, PoseSpec(), "original")
    for number in range(7):
        one = slice(number, number + 1)
        alone = heatmaps_to_keypoints(normal[one], mirrored[one], boxes[one], PoseSpec(), "original")
        np.testing.assert_array_equal(alone[0], keypoints[one])
        np.testing.assert_array_equal(alone[1], scores[one])


@pytest.mark.parametrize("norm", ["sigmoid", "softmax"])
def test_regression_is_the_expectation(norm):
    heatmaps = random_heatmaps(2, 17, 16, 12, seed=5) * 4
    positions, scores = expected_positions(heatmaps, norm)
    for person in range(2):
        for joint in range(17):
            logits = heatmaps[person, joint].astype(np.float64)
            weights = 1 / (1 + np.exp(-logits)) if norm == "sigmoid" else np.exp(logits)
            x = sum(weights[:, column].sum() * column for column in range(12)) / weights.sum()
            y = sum(weights[row].sum() * row for row in range(16)) / weights.sum()
            np.testing.assert_allclose(positions[person, joint], (x, y), rtol=1e-5)
            expected = weights.max() if norm == "sigmoid" else 1
            np.testing.assert_allclose(scores[person, joint], expected, rtol=1e-6)


def test_regression_averages_positions_and_scores_of_the_flip_test():
    config = PoseSpec(heatmap_size=(16, 12), decode="regression_sigmoid")
    normal, mirrored = random_heatmaps(2, 17, 16, 12, seed=6), random_heatmaps(2, 17, 16, 12, seed=7)
    boxes = np.repeat(BOX, 2, axis=0)
    fused, scores = heatmaps_to_keypoints(normal, mirrored, boxes, config)
    one, one_scores = heatmaps_to_keypoints(normal, None, boxes, config)
    other, other_scores = heatmaps_to_keypoints(shift_clean(flip_back(mirrored)), None, boxes, config)
    np.testing.assert_allclose(fused, (one + other) / 2, atol=1e-4)
    np.testing.assert_allclose(scores, (one_scores + other_scores) / 2, rtol=1e-6)
