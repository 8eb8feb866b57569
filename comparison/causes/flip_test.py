"""Heatmaps of both crops decoded by every variant of the flip test: which of them gives a result's keypoints."""
from __future__ import annotations

from typing import Callable, Dict, List

import numpy as np

from comparison.causes.case import SAMPLE, Case
from comparison.decoded import read_people
from comparison.finding import FOUND, REPRODUCED, RULED_OUT, Finding
from comparison.people import match_people, people_of_manifest
from comparison.results import Result
from contract.manifest import Manifest
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import flip_back, shift_clean, shift_original
from pose.people import spec_of
from pose.skeleton import Skeleton

EXACT = 0.02  # pixels of the input: another device's decoding of the same heatmaps comes nearer than this

Fuse = Callable[[np.ndarray, np.ndarray, Skeleton], np.ndarray]  # heatmaps of both crops -> those that are decoded


def mean_with(change: Callable[[np.ndarray], np.ndarray]) -> Fuse:
    """The flip test with the mirrored crop's heatmaps, turned back, changed."""
    return lambda normal, mirrored, skeleton: (normal + change(flip_back(mirrored, skeleton))) / np.float32(2)


def shift_back(turned: np.ndarray) -> np.ndarray:
    return shift_clean(turned[..., ::-1])[..., ::-1]


def mirrored_alone(normal: np.ndarray, mirrored: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    return shift_clean(flip_back(mirrored, skeleton))


def higher(normal: np.ndarray, mirrored: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    return np.maximum(normal, mirrored_alone(normal, mirrored, skeleton))


def not_swapped(normal: np.ndarray, mirrored: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    return (normal + shift_clean(mirrored[..., ::-1])) / np.float32(2)


def peaks_alone(normal: np.ndarray, mirrored: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """No neighbour of a peak is higher than another."""
    fused = mean_with(shift_clean)(normal, mirrored, skeleton)
    return np.where(fused == fused.max(axis=(2, 3), keepdims=True), fused, np.float32(0))


AS_IT_SHOULD_BE = "the flip test as it should be"
NOT_SWAPPED = "left and right joints of the mirrored crop not swapped"
SOME_SWAPPED = "some left and right joints of the mirrored crop not swapped"
FUSED: Dict[str, Fuse] = {
    AS_IT_SHOULD_BE: mean_with(shift_clean),
    "no shift by one column": mean_with(lambda turned: turned),
    "the shift smeared, as the original does on a CPU": mean_with(shift_original),
    "the shift to the other side": mean_with(shift_back),
    "the shift done twice": mean_with(lambda turned: shift_clean(shift_clean(turned))),
    "no flip test": lambda normal, mirrored, skeleton: normal,
    "the mirrored crop alone": mirrored_alone,
    "the higher of both, not the mean": higher,
    "no step of a quarter cell to the higher neighbour": peaks_alone,
    NOT_SWAPPED: not_swapped,
}
VARIANTS = {"flip_shift": [name for name in FUSED if name not in (AS_IT_SHOULD_BE, NOT_SWAPPED)],
            "left_right": [NOT_SWAPPED, SOME_SWAPPED]}  # of each cause


def explain_flip(case: Case, cause: str) -> List[Finding]:
    """How the keypoints files came about, by heatmaps of both crops; the other result's serve as well. Nothing where
    there are none."""
    both = [result for result in (case.a, case.b) if len(result.readers) == 2]
    if not both or spec_of(both[0].manifest).decode != "peak":
        return []
    return [explain_result(result, result if result in both else both[0], cause) for result in (case.a, case.b)
            if result.keypoints is not None]


def explain_result(result: Result, source: Result, cause: str) -> Finding:
    """Whether `result` has exactly the keypoints that a variant of `cause` makes of the dumps of `source`."""
    manifest, nothing = source.manifest, np.empty(0)
    rows, there = match_people(people_of_manifest(manifest, nothing, nothing), result.people)
    pick = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
    rows, there = rows[pick], there[pick]
    normal, mirrored = (read_people(reader, rows) for reader in source.readers)
    decoded = decode_variants(normal, mirrored, manifest["crop_xyxy"][rows], manifest)
    pixels = result.people.input_pixels(there, spec_of(manifest))
    keypoints = result.people.keypoints[there]
    decoded[SOME_SWAPPED] = nearer_joints(decoded[AS_IT_SHOULD_BE], decoded[NOT_SWAPPED], keypoints)
    distances = {name: distance(made, keypoints, pixels) for name, made in decoded.items()}
    best, before = min(distances, key=distances.__getitem__), distances[AS_IT_SHOULD_BE]
    mine = min(VARIANTS[cause], key=distances.__getitem__)
    status = FOUND if mine == best and distances[best] < min(EXACT, REPRODUCED * before) else RULED_OUT
    text = (f"{result.label} is {distances[mine]:.3g} input pixels (mean) from its heatmaps decoded with {mine}, and "
            f"{before:.3g} from {AS_IT_SHOULD_BE}")
    return Finding(cause, status, text, distances[mine] / before if before else 1.0)


def nearer_joints(one: np.ndarray, other: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """(n, K, 2) each: every joint of one or the other, whichever is nearer to the keypoints over all people."""
    off = [np.linalg.norm(made - keypoints, axis=2).sum(axis=0) for made in (one, other)]
    return np.where((off[0] <= off[1])[:, None], one, other)


def decode_variants(normal: np.ndarray, mirrored: np.ndarray, crop_xyxy: np.ndarray,
                    manifest: Manifest) -> Dict[str, np.ndarray]:
    """(n, K, h, w) of both crops -> keypoints (n, K, 2) by every variant of the flip test."""
    spec = spec_of(manifest)
    return {name: heatmaps_to_keypoints(fuse(normal, mirrored, spec.skeleton), None, crop_xyxy, spec)[0]
            for name, fuse in FUSED.items()}


def distance(decoded: np.ndarray, keypoints: np.ndarray, pixels: np.ndarray) -> float:
    """Mean in pixels of the input; `pixels` (n,) takes the photo's to these."""
    off = np.linalg.norm(decoded.astype(np.float64) - keypoints, axis=2)
    return float(np.mean(off * pixels[:, None]))
