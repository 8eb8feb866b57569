"""Features of people: how far each is from the reference's, and whether who is near whom stays the same."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional

import numpy as np

from comparison.limits import LEAST, MOST, Limit, number
from comparison.results import Options, Result
from contract.errors import UserError
from contract.tables import format_table
from reid.features import identities
from reid.ranking import cosine_distance, rank

CHUNK = 1024  # rows of a distance matrix at a time
INTERVAL = (2.5, 97.5)  # percent


@dataclasses.dataclass
class Features:
    """`mismatched`: share of elements beyond atol + rtol |candidate|, as numpy's assert_allclose(reference, candidate)
    scales it; the rest compares features of length 1. `distance`: largest difference between the two cosine distances
    of a pair. `neighbours`: share of people whose nearest is the same. `scores`: rank-1 and mAP of both and their
    difference with its interval, where names are of Market-1501's form."""

    people: int
    dimension: int
    max_abs: float
    mismatched: float
    cosine: float
    cosine_worst: float
    worst: str
    distance: float
    neighbours: float
    scores: Dict[str, List[float]]


LIMITS = {
    "feature_cosine": Limit(LEAST, "mean cosine of a person's two features", lambda one: one.cosine,
                            {"fp32": 0.999999, "fp16": 0.9999, "int8": 0.99}),
    "feature_cosine_worst": Limit(LEAST, "cosine of the worst person's two features", lambda one: one.cosine_worst,
                                  {"fp32": 0.99999, "fp16": 0.999, "int8": 0.95}),
    "distance_error": Limit(MOST, "largest change of a cosine distance between two people", lambda one: one.distance,
                            {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.1}),
    "neighbours": Limit(LEAST, "fraction of people whose nearest person is the same", lambda one: one.neighbours,
                        {"fp32": 1, "fp16": 0.99, "int8": 0.9}),
    "allclose": Limit(MOST, "fraction of elements beyond numpy's allclose with --rtol and --atol",
                      lambda one: one.mismatched, {}),
}


def measure(a: Result, b: Result, options: Options) -> Optional[Features]:
    if a.features is None or b.features is None:
        return None
    names = a.features.names
    if names != b.features.names:
        alone = sorted(set(names) ^ set(b.features.names))
        raise UserError(f"{a.label} and {b.label} have features of other images: {alone[0]} and {len(alone) - 1} more "
                        "are in one of them only. Extract both from the same --input")
    ours, theirs = a.features.values.astype(np.float64), b.features.values.astype(np.float64)
    if ours.shape != theirs.shape:
        raise UserError(f"{a.label} has features of {ours.shape[1]} numbers, and {b.label} of {theirs.shape[1]}: they "
                        "are of two models")
    off = np.abs(theirs - ours) > options.limits["atol"] + options.limits["rtol"] * np.abs(theirs)
    cosines = 1 - np.array([cosine_distance(x[None], y[None])[0, 0] for x, y in zip(ours, theirs)])
    distance, same = _distances(ours, theirs)
    return Features(len(names), ours.shape[1], float(np.abs(ours - theirs).max()), float(off.mean()),
                    float(cosines.mean()), float(cosines.min()), names[int(cosines.argmin())], distance, same,
                    _scores(names, ours, theirs, options))


def _distances(ours: np.ndarray, theirs: np.ndarray) -> tuple:
    """Largest difference of two distances, and the share of rows with the same nearest other row. A nearest that is
    as near as the other's, to rounding, is the same."""
    largest, same = 0.0, 0
    for start in range(0, len(ours), CHUNK):
        rows = slice(start, start + CHUNK)
        a, b = cosine_distance(ours[rows], ours), cosine_distance(theirs[rows], theirs)
        largest = max(largest, float(np.abs(a - b).max()))
        if len(ours) > 1:
            own = np.arange(len(a)), np.arange(start, start + len(a))
            a[own] = b[own] = np.inf
            chosen = a[np.arange(len(a)), b.argmin(axis=1)]
            same += int((chosen <= a.min(axis=1) + 1e-6).sum())
    return largest, same / len(ours) if len(ours) > 1 else 1.0


def _scores(names: List[str], ours: np.ndarray, theirs: np.ndarray, options: Options) -> Dict[str, List[float]]:
    """Of every image against all others, by Market-1501's rule; empty where nobody is seen by two cameras."""
    known = identities(names)
    if known is None:
        return {}
    people, cameras = known
    try:
        of_a, of_b = (rank(cosine_distance(side, side), people, people, cameras, cameras) for side in (ours, theirs))
    except UserError:
        return {}
    random = np.random.default_rng(options.seed)
    drawn = random.integers(0, of_a.valid, (max(1, options.replicates), of_a.valid))
    return {name: [float(x.mean()), float(y.mean()), *np.percentile((y - x)[drawn].mean(axis=1), INTERVAL).tolist()]
            for name, x, y in (("rank-1", of_a.first.astype(float), of_b.first.astype(float)),
                               ("mAP", of_a.average_precision, of_b.average_precision))}


def load(values: Dict[str, Any]) -> Features:
    return Features(**values)


def table(measured: Features) -> str:
    elements = measured.people * measured.dimension
    rows = [[f"{measured.people} x {measured.dimension}", number(measured.max_abs),
             f"{round(measured.mismatched * elements)} of {elements} ({100 * measured.mismatched:.3g} %)",
             measured.worst]]
    text = format_table(["features", "max abs", "beyond allclose", "worst person"], rows)
    if measured.scores:
        text += "\n\n" + format_table(["ranking", "a", "b", "difference, 95 %"], [
            [name, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f} ({low:+.4f} to {high:+.4f})"]
            for name, (a, b, low, high) in measured.scores.items()])
    return text
