"""COCO's ten keypoint numbers of weighted photos, and how far apart two results are beyond chance.

The bootstrap is paired: each replicate draws photos with replacement, both results are scored on the same draw,
and the interval is that of the difference. Axes as in `pose.matching`, and R replicates.
"""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Dict, List, Tuple

import numpy as np

from pose.matching import AREAS, THRESHOLDS, Matches
from pose.score import METRICS

RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision
REPLICATES_AT_ONCE = 20  # their cumulative sums stay near a core's cache
COVERAGE = 95  # per cent of the interval
UNDEFINED = -1.0  # pycocotools' value where no annotation is to be found


def coco_numbers(matches: Matches) -> Dict[str, float]:
    """The ten numbers, as pycocotools gives them."""
    numbers = weighted_numbers(matches, np.ones((1, matches.wanted.shape[1])))[0]
    return dict(zip(METRICS, np.nan_to_num(numbers, nan=UNDEFINED).tolist()))


def weighted_numbers(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """(R, I) times that each photo counts -> (R, 10) numbers; NaN where no annotation is to be found.

    Counts are exact in float32 too; its precisions are then good to 1e-7.
    """
    precision = np.empty((len(weights), len(AREAS), len(THRESHOLDS)))
    recall = np.empty(precision.shape)
    for area, wanted in enumerate(matches.wanted):
        some = np.nonzero(matches.counts[area].any(axis=0))[0]  # results that count at some threshold
        of_results = weights[:, matches.image[some]]
        everything, total = np.cumsum(of_results, axis=1), weights @ wanted.astype(weights.dtype)
        for threshold in range(len(THRESHOLDS)):
            precision[:, area, threshold], recall[:, area, threshold] = _area_under(
                of_results, everything, matches.hit[area, threshold, some], ~matches.counts[area, threshold, some],
                total)
    columns = [(values[:, 0], values[:, 0, :1], values[:, 0, 5:6], values[:, 1], values[:, 2])
               for values in (precision, recall)]
    return np.stack([column.mean(axis=1) for half in columns for column in half], axis=1)


def _area_under(weights: np.ndarray, everything: np.ndarray, hit: np.ndarray, ignored: np.ndarray,
                wanted: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(R, C) weights of results and their cumulative sums, (C,) which of them hit and which are to be ignored, (R,)
    annotations -> (R,) precision averaged over RECALLS, and (R,) final recall.

    Precision is highest right after a hit, so only hits are looked at.
    """
    at, without = np.nonzero(hit)[0], np.nonzero(ignored)[0]
    if not len(at):
        none = np.where(wanted > 0, 0.0, np.nan)
        return none, none
    hits = np.cumsum(weights[:, at], axis=1)  # (R, H)
    counted = everything[:, at]
    if len(without):
        left_out = np.cumsum(weights[:, without], axis=1)
        before = np.searchsorted(without, at)  # ignored results ahead of each hit
        counted[:, before > 0] -= left_out[:, before[before > 0] - 1]
    precision = hits / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    column = _first_reaching(hits, _needed(wanted))
    values = np.take_along_axis(envelope, np.minimum(column, len(at) - 1), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        undefined = 0 / wanted  # NaN without annotations
        return np.where(column < len(at), values, 0).mean(axis=1) + undefined, hits[:, -1] / wanted


def _first_reaching(hits: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Row by row `searchsorted(hits, needed)`, as one call: rows are set apart by more than any count."""
    rows = np.arange(len(hits))[:, None]
    apart = rows * (float(hits[:, -1].max()) + float(needed.max()) + 2)
    found = np.searchsorted((hits + apart).ravel(), (needed + apart).ravel()).reshape(needed.shape)
    return found - rows * hits.shape[1]


def _needed(wanted: np.ndarray) -> np.ndarray:
    """(R,) annotations -> (R, 101) least numbers of hits whose recall, as floating-point division gives it, reaches
    each of RECALLS."""
    total = np.maximum(wanted, 1)[:, None].astype(np.float64)
    least = np.maximum(np.ceil(RECALLS * total) - 1, 0)
    for _ in range(2):
        least += least / total < RECALLS
    return least


def difference_intervals(a: Matches, b: Matches, replicates: int, seed: int,
                         workers: int) -> Dict[str, List[float]]:
    """Of each number, the interval that holds the difference b - a in COVERAGE per cent of the replicates."""
    photographs = a.wanted.shape[1]
    # Photos without annotations and results weigh nothing; drawing them is what makes the rest vary in number.
    seeds = np.random.SeedSequence(seed).spawn(-(-replicates // REPLICATES_AT_ONCE))

    def draw(task: Tuple[int, np.random.SeedSequence]) -> np.ndarray:
        rows = min(REPLICATES_AT_ONCE, replicates - task[0] * REPLICATES_AT_ONCE)
        drawn = np.random.default_rng(task[1]).integers(photographs, size=(rows, photographs))
        weights = np.stack([np.bincount(row, minlength=photographs) for row in drawn]).astype(np.float32)
        return weighted_numbers(b, weights) - weighted_numbers(a, weights)

    with ThreadPoolExecutor(workers) as pool:
        differences = np.concatenate(list(pool.map(draw, enumerate(seeds))))
    tail = (100 - COVERAGE) / 2
    return {name: [float(value) for value in np.nanpercentile(column, (tail, 100 - tail))]
            if np.isfinite(column).any() else [0.0, 0.0] for name, column in zip(METRICS, differences.T)}
