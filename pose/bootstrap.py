"""COCO's ten keypoint numbers of weighted photos, and how far apart two results are beyond chance.

The bootstrap is paired: each replicate draws photos with replacement, and both results are scored on the same draw. The
standard deviation of the differences is the error of the difference, and Student's quantile makes an interval of it. On
few photos a number such as AP50 depends on a few people who are found or not, and may not have changed at all where it
will: as Agresti and Coull do for a proportion (Approximate is better than exact, 1998), UNSEEN changes each way are
added. A jackknife is no help: AP reads its curve at 101 recalls, and without a group of photos all of them move. Axes
as in `pose.matching`, and R replicates.
"""
from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from statistics import NormalDist
from typing import Callable, Dict, List, Tuple

import numpy as np

from pose.matching import AREAS, THRESHOLDS, Matches
from pose.score import METRICS

RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision
REPLICATES_AT_ONCE = 20  # their cumulative sums stay near a core's cache
COVERAGE = 95  # per cent of the interval
UNSEEN = 2  # changes each way, as in Agresti and Coull's interval
FEW = 2.0  # intervals are wider by this over the root of the photos: on few photos differences of AP are biased
UNDEFINED = -1.0  # pycocotools' value where no annotation is to be found


def coco_numbers(matches: Matches) -> Dict[str, float]:
    """The ten numbers, as pycocotools gives them."""
    numbers = weighted_numbers(matches, np.ones((1, matches.wanted.shape[1])))[0]
    return dict(zip(METRICS, np.nan_to_num(numbers, nan=UNDEFINED).tolist()))


def weighted_numbers(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """(R, I) times that each photo counts -> (R, 10) numbers; NaN where no annotation is to be found.

    Counts are exact in float32 too; its precisions are then good to 1e-7.
    """
    of_areas = [_of_area(matches, area, weights) for area in range(len(AREAS))]
    columns = [(values[0], values[0][:, :1], values[0][:, 5:6], values[1], values[2]) for values in zip(*of_areas)]
    return np.stack([column.mean(axis=1) for half in columns for column in half], axis=1)


def _of_area(matches: Matches, area: int, weights: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(R, I) weights -> (R, T) average precision and final recall of one area."""
    some = np.nonzero(matches.counts[area].any(axis=0))[0]  # results that count at some threshold
    of_results = weights[:, matches.image[some]]
    everything, total = np.cumsum(of_results, axis=1), weights @ matches.wanted[area].astype(weights.dtype)
    curves = [_area_under(of_results, everything, matches.hit[area, threshold, some],
                          ~matches.counts[area, threshold, some], total) for threshold in range(len(THRESHOLDS))]
    precision, recall = (np.stack(values, axis=1) for values in zip(*curves))
    return precision, recall


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
    """Of each number, the interval about the difference b - a that holds the difference of all photos, of which these
    are a sample, in COVERAGE per cent of the samples; of results that are the same, nothing but 0."""
    if same_matches(a, b):
        return {name: [0.0, 0.0] for name in METRICS}
    differences = drawn_differences(a, b, replicates, seed, weighted_numbers, workers)
    numbers_a, numbers_b = (np.array(list(coco_numbers(one).values())) for one in (a, b))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that no photo has
        drawn = np.nan_to_num(np.nanstd(differences, axis=0, ddof=1))
    error = np.hypot(drawn, (2 * UNSEEN) ** 0.5 * least_changes(a))
    photos = a.wanted.shape[1]
    half = t_quantile(0.5 + COVERAGE / 200, max(photos - 1, 1)) * error * (1 + FEW / photos ** 0.5)
    return {name: [float(low), float(high)]
            for name, low, high in zip(METRICS, *(numbers_b - numbers_a + side * half for side in (-1, 1)))}


def same_matches(a: Matches, b: Matches) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("image", "hit", "counts"))


def drawn_differences(a: Matches, b: Matches, replicates: int, seed: int,
                      score: Callable[[Matches, np.ndarray], np.ndarray], workers: int = 1) -> np.ndarray:
    """(replicates, ...) differences b - a of what `score` gives of photos that are drawn with replacement."""
    photographs = a.wanted.shape[1]
    # Photos without annotations and results weigh nothing; drawing them is what makes the rest vary in number.
    seeds = np.random.SeedSequence(seed).spawn(-(-replicates // REPLICATES_AT_ONCE))

    def draw(task: Tuple[int, np.random.SeedSequence]) -> np.ndarray:
        rows = min(REPLICATES_AT_ONCE, replicates - task[0] * REPLICATES_AT_ONCE)
        drawn = np.random.default_rng(task[1]).integers(photographs, size=(rows, photographs))
        weights = np.stack([np.bincount(row, minlength=photographs) for row in drawn]).astype(np.float32)
        return score(b, weights) - score(a, weights)

    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(draw, enumerate(seeds))))


def least_changes(matches: Matches) -> np.ndarray:
    """(10,) how far each number moves, at most, when one more person is found at one threshold."""
    people = np.maximum(matches.wanted.sum(axis=1), 1)[[0, 0, 0, 1, 2]]
    return np.tile(1 / (people * np.array([len(THRESHOLDS), 1, 1, len(THRESHOLDS), len(THRESHOLDS)])), 2)


def t_quantile(probability: float, freedom: int) -> float:
    """Of Student's distribution, by its expansion about the normal one (Abramowitz and Stegun, 26.7.5); good to 1e-3
    from 20 degrees of freedom on."""
    z = NormalDist().inv_cdf(probability)
    return z + (z ** 3 + z) / (4 * freedom) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2)
