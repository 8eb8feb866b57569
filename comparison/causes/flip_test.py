"""Heatmaps of both crops decoded by every variant of the flip test: which of them gives a result's keypoints."""
from __future__ import annotations

from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from comparison.causes.case import SAMPLE, Case
from comparison.causes.finding import FOUND, REPRODUCED, RULED_OUT, Finding
from comparison.decoded import read_people
from comparison.people import match_people, people_of_manifest
from comparison.results import Result
from contract.manifest import Manifest
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import flip_back, shift_clean, shift_original
from pose.people import spec_of

EXACT = 0.02  # pixels of the input: another device's decoding of the same heatmaps comes nearer than this

# From the mirrored crop's heatmaps to what is averaged with the normal ones; None leaves them out.
AS_IT_SHOULD_BE = "the flip test as it should be"
VARIANTS: Dict[str, Tuple[Optional[str], Callable[[np.ndarray], Optional[np.ndarray]]]] = {
    AS_IT_SHOULD_BE: (None, lambda flip: shift_clean(flip_back(flip))),
    "no shift by one column": ("flip_shift", flip_back),
    "the shift smeared, as the original does on a CPU": ("flip_shift", lambda flip: shift_original(flip_back(flip))),
    "no flip test": ("flip_shift", lambda flip: None),
    "left and right joints of the mirrored crop not swapped": (
        "left_right", lambda flip: shift_clean(flip[..., ::-1])),
}


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
    distances = {name: distance(keypoints, result.people.keypoints[there], pixels)
                 for name, keypoints in decoded.items()}
    best, before = min(distances, key=distances.__getitem__), distances[AS_IT_SHOULD_BE]
    mine = min((name for name, (of, _) in VARIANTS.items() if of == cause), key=distances.__getitem__)
    status = FOUND if mine == best and distances[best] < min(EXACT, REPRODUCED * before) else RULED_OUT
    text = (f"{result.label} is {distances[mine]:.3g} input pixels (mean) from its heatmaps decoded with {mine}, and "
            f"{before:.3g} from {AS_IT_SHOULD_BE}")
    return Finding(cause, status, text, distances[mine] / before if before else 1.0)


def decode_variants(normal: np.ndarray, mirrored: np.ndarray, crop_xyxy: np.ndarray,
                    manifest: Manifest) -> Dict[str, np.ndarray]:
    """(n, K, h, w) of both crops -> keypoints (n, K, 2) by every variant of the flip test."""
    decoded = {}
    for name, (_, prepare) in VARIANTS.items():
        flip = prepare(mirrored)
        fused = normal if flip is None else (normal + flip) / np.float32(2)
        decoded[name] = heatmaps_to_keypoints(fused, None, crop_xyxy, spec_of(manifest))[0]
    return decoded


def distance(decoded: np.ndarray, keypoints: np.ndarray, pixels: np.ndarray) -> float:
    """Mean in pixels of the input; `pixels` (n,) takes the photograph's to these."""
    off = np.linalg.norm(decoded.astype(np.float64) - keypoints, axis=2)
    return float(np.mean(off * pixels[:, None]))
