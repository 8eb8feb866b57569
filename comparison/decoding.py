"""What may have happened between heatmaps and keypoints: the flip test, the joints, a constant offset, the scores."""
from __future__ import annotations

from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from comparison.causes import FOUND, NOT_TESTED, REPRODUCED, RULED_OUT, Finding, judge_trial, remainder
from comparison.outputs import SCALE_LEAST, swap_joints
from contract.manifest import Manifest
from pose.heatmaps import flip_back, heatmaps_to_keypoints, shift_clean, shift_original
from pose.people import spec_of

EXACT = 0.02  # pixels of the input: another device's decoding of the same heatmaps comes nearer than this
OFFSET_LEAST = 0.2  # pixels of the input
OFFSET_JOINTS = 0.5  # of the joints must be within a quarter of a heatmap cell of the median displacement
QUARTER_CELL = 1.0  # pixels of the input: a decoded peak lies on a raster of this

# From the mirrored crop's heatmaps to what is averaged with the normal ones; None leaves them out.
AS_IT_SHOULD_BE = "the flip test as it should be"
VARIANTS: Dict[str, Tuple[Optional[str], Callable[[np.ndarray], Optional[np.ndarray]]]] = {
    AS_IT_SHOULD_BE: (None, lambda flip: shift_clean(flip_back(flip))),
    "no shift by one column": ("flip_shift", flip_back),
    "the shift smeared, as the original does on a CPU": ("flip_shift", lambda flip: shift_original(flip_back(flip))),
    "no flip test": ("flip_shift", lambda flip: None),
    "left and right joints of the mirrored crop not swapped": (
        "left_right", lambda flip: shift_clean(flip_back(flip, ()))),
}


def decode_variants(normal: np.ndarray, mirrored: np.ndarray, crop_xyxy: np.ndarray,
                    manifest: Manifest) -> Dict[str, np.ndarray]:
    """(n, K, h, w) of both crops -> keypoints (n, K, 2) by every variant of the flip test."""
    decoded = {}
    for name, (_, prepare) in VARIANTS.items():
        flip = prepare(mirrored)
        fused = normal if flip is None else (normal + flip) / np.float32(2)
        decoded[name] = heatmaps_to_keypoints(fused, None, crop_xyxy, spec_of(manifest))[0]
    return decoded


def explain_flip(label: str, decoded: Dict[str, np.ndarray], keypoints: np.ndarray,
                 pixels: np.ndarray) -> List[Finding]:
    """How the keypoints (n, K, 2) of one side came about: the variant that gives exactly these. `pixels` (n,) takes
    photograph pixels to the input's."""

    def distance(variant: str) -> float:
        off = np.linalg.norm(decoded[variant].astype(np.float64) - keypoints, axis=2)
        return float(np.mean(off * pixels[:, None]))

    distances = {name: distance(name) for name in VARIANTS}
    best = min(distances, key=distances.get)
    before = distances[AS_IT_SHOULD_BE]
    findings = []
    for cause in ("left_right", "flip_shift"):
        mine = min((name for name, (of, _) in VARIANTS.items() if of == cause), key=distances.get)
        found = mine == best and distances[best] < min(EXACT, REPRODUCED * before)
        findings.append(Finding(cause, FOUND if found else RULED_OUT,
                                f"{label} is {distances[mine]:.3g} input pixels (mean) from its heatmaps decoded with "
                                f"{mine}, and {before:.3g} from {AS_IT_SHOULD_BE}",
                                distances[mine] / before if before else 1.0))
    return findings


def explain_keypoints(a: np.ndarray, b: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray) -> List[Finding]:
    """(n, K, 2) keypoints in pixels of the input, (n, K) scores: what can be told without heatmaps."""
    swapped = judge_trial("left_right", "swapping left and right joints", remainder(swap_joints(a), a, b))
    return [swapped, explain_displacement(a, b), explain_scores(scores_a, scores_b)]


def explain_displacement(a: np.ndarray, b: np.ndarray) -> Finding:
    moved = (b.astype(np.float64) - a).reshape(-1, 2)
    middle = np.median(moved, axis=0)
    near = float((np.abs(moved - middle).max(axis=1) <= QUARTER_CELL).mean())
    text = (f"keypoints of b lie {middle[0]:+.3f}, {middle[1]:+.3f} input pixels beside those of a (median x, y), "
            f"{100 * near:.0f} % of the joints within {QUARTER_CELL:g} of that")
    found = np.hypot(*middle) >= OFFSET_LEAST and near >= OFFSET_JOINTS
    return Finding("offset", FOUND if found else RULED_OUT, text, remainder(a + middle, a, b))


def explain_scores(a: np.ndarray, b: np.ndarray) -> Finding:
    flat_a, flat_b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    scale = float(flat_a @ flat_b / max(flat_a @ flat_a, 1e-30))
    if abs(scale - 1) < SCALE_LEAST:
        return Finding("scaled", RULED_OUT, f"b's scores are {scale:.4g} times a's")
    return judge_trial("scaled", f"scores of b = {scale:.4g} times a's", remainder(scale * flat_a, flat_a, flat_b))


def not_tested_without_dumps() -> List[Finding]:
    need = "needs dumps of both: LABEL=DUMPS[,DUMPS_OF_MIRRORED]"
    return [Finding(cause, NOT_TESTED, need) for cause in ("layout", "transposed", "saturation")]
