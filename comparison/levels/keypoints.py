"""Keypoints of the people that both results have."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from comparison.limits import LEAST, MOST, Limit
from comparison.page.figures import Figures, bars, histogram
from comparison.people import match_people
from comparison.results import Options, Result
from contract.errors import UserError
from pose.metrics import keypoint_distances, oks_between, spread
from pose.spec import PoseSpec

MOST_DIFFERENT = 12  # people that are named


@dataclasses.dataclass
class Keypoints:
    """People in both, in one only, and the fraction that counts against agreement; spreads of distances in pixels of
    the photo and of the network's input, of joint scores relative to a's mean, and of OKS; those of lowest OKS; of
    scores of people, relative to a's mean, where both are keypoints files."""

    people: int
    only_in_a: int
    only_in_b: int
    unmatched: float
    image_pixels: Dict[str, float]
    input_pixels: Dict[str, float]
    input_pixels_p95_per_joint: List[float]
    scores: Dict[str, float]
    oks: Dict[str, float]
    worst: List[Dict[str, Any]]
    person_scores: Optional[Dict[str, float]] = None


LIMITS = {
    "pixels_p95": Limit(MOST, "95th percentile of keypoint distances, pixels of the network's input",
                        lambda keypoints: keypoints.input_pixels["p95"], {"fp32": 0.05, "fp16": 0.5, "int8": 4.0}),
    "oks": Limit(LEAST, "mean OKS between the two", lambda keypoints: keypoints.oks["mean"],
                 {"fp32": 0.999, "fp16": 0.995, "int8": 0.97}),
    "scores_p95": Limit(MOST, "95th percentile of joint score differences, relative to a's mean score",
                        lambda keypoints: keypoints.scores["p95"], {"fp32": 0.001, "fp16": 0.02, "int8": 0.1}),
    "person_scores_p95": Limit(MOST, "95th percentile of differences of people's scores, relative to a's mean score",
                               lambda keypoints: keypoints.person_scores and keypoints.person_scores["p95"],
                               {"fp32": 0.001, "fp16": 0.02, "int8": 0.1}),
    "unmatched": Limit(MOST, "fraction of people that only one of two keypoints files has",
                       lambda keypoints: keypoints.unmatched, {"fp32": 0.001, "fp16": 0.005, "int8": 0.02}),
}


def measure(a: Result, b: Result, options: Options) -> Optional[Keypoints]:
    """A person whom only one of two keypoints files has is a difference; dumps hold everybody, also those whom the NMS
    will drop. Features of images have no keypoints."""
    if a.features or b.features:
        return None
    rows_a, rows_b = match_people(a.people, b.people)
    alone = (len(a.people.keys) - len(rows_a), len(b.people.keys) - len(rows_b))
    counted = sum(alone) if a.keypoints is not None and b.keypoints is not None else 0
    if not len(rows_a):
        raise UserError(f"no person is in both results ({len(a.people.keys)} and {len(b.people.keys)} people), which "
                        "are matched by photo and bbox. Were both made from the same detections?")
    distances, inputs = both_distances(a, b, rows_a, rows_b, options.spec)
    similar = oks_between(a.people.keypoints[rows_a], b.people.keypoints[rows_b], a.people.areas[rows_a])
    scores = a.people.scores[rows_a].astype(np.float64)
    height = max(np.abs(scores).mean(), 1e-30)
    return Keypoints(
        len(rows_a), *alone, counted / max(1, counted + len(rows_a)), spread(distances), spread(inputs),
        np.percentile(inputs, 95, axis=0).tolist(), spread(np.abs(scores - b.people.scores[rows_b]) / height),
        {**spread(similar), "p5": float(np.percentile(similar, 5)), "min": float(similar.min())},
        [{"row_a": int(rows_a[at]), "row_b": int(rows_b[at]), "image_id": int(a.people.keys[rows_a[at]][0]),
          "oks": float(similar[at]), "input_pixels_max": float(inputs[at].max())}
         for at in np.argsort(similar, kind="stable")[:MOST_DIFFERENT]], person_differences(a, b, rows_a, rows_b))


def person_differences(a: Result, b: Result, rows_a: np.ndarray, rows_b: np.ndarray) -> Optional[Dict[str, float]]:
    """Of scores of people, relative to a's mean; None where one of the results is of dumps and has none."""
    if a.people.person_scores is None or b.people.person_scores is None:
        return None
    mine, theirs = a.people.person_scores[rows_a], b.people.person_scores[rows_b]
    return spread(np.abs(mine - theirs) / max(np.abs(mine).mean(), 1e-30))


def both_distances(a: Result, b: Result, rows_a: np.ndarray, rows_b: np.ndarray,
                   spec: PoseSpec) -> Tuple[np.ndarray, np.ndarray]:
    """(n, K) distances of keypoints in pixels of the photo, and of the input."""
    distances = keypoint_distances(a.people.keypoints[rows_a], b.people.keypoints[rows_b])
    return distances, distances * a.people.input_pixels(rows_a, spec)[:, None]


def load(values: Dict[str, Any]) -> Keypoints:
    return Keypoints(**values)


def table(measured: Keypoints) -> str:
    """The limits' table says it all."""
    return ""


def section(measured: Keypoints, a: Result, b: Result, options: Options) -> Figures:
    rows_a, rows_b = match_people(a.people, b.people)
    _, inputs = both_distances(a, b, rows_a, rows_b, options.spec)
    similar = oks_between(a.people.keypoints[rows_a], b.people.keypoints[rows_b], a.people.areas[rows_a])
    pixels = measured.input_pixels_p95_per_joint
    return {"Joints": {"Keypoint distance, 95th percentile, input pixels": bars(
                options.spec.skeleton.joints, pixels, max(pixels), "{:.2f}", "keypoint distance of each joint")},
            "People": {"Keypoint distances, input pixels": histogram(inputs, "keypoint distances"),
                       "1 - OKS of each person": histogram(1 - similar, "1 - OKS")}}
