"""The range that each tensor of a network keeps in int8: what calibration collects, and how a threshold is chosen.

Symmetric int8 is round(x * 127 / threshold), and larger magnitudes are cut to the threshold; `bounds` is for runtimes
whose int8 need not be symmetric. Only numpy is needed, so that every room can calibrate in the same way.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Tuple

import numpy as np

from contract.errors import UserError

LEVELS = 127  # of a magnitude in symmetric int8
BINS = 4096  # of a histogram; between half and all of them lie below the largest magnitude
ENTROPY_BINS = 2048  # that candidates of `entropy` are counted in
COARSE = 128  # bins that int8 can tell apart, in `entropy`
PERCENTILE = 99.99
MSE_CANDIDATES = 200  # of `mse`, from the largest magnitude down
DEAD = 1e-12  # a threshold below this has no int8, and a share below this none in `entropy`


class Range:
    """Values of one tensor over many images, in constant memory: a histogram of magnitudes whose bins double in width
    when a larger one comes, so that no image is read twice."""

    def __init__(self) -> None:
        self.width = 0.0  # of a bin; 0 until a value other than 0 came
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0
        self.lowest = self.highest = 0.0  # of 0 and all values
        self.peaks = 0.0  # sum of the largest magnitude of each image
        self.images = 0

    def add(self, values: np.ndarray) -> None:
        """One image's tensor, of any shape. Raises UserError for values that are not finite."""
        values = values.ravel()
        low, high = (float(one) for one in (values.min(initial=0), values.max(initial=0)))
        peak = max(-low, high)
        if not np.isfinite(peak):
            raise UserError("calibration: the network gives values that are not finite. Is the model complete, "
                            "and were the bins made for it?")
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
        self.peaks, self.images = self.peaks + peak, self.images + 1
        zeros = values.size - int(np.count_nonzero(values))
        self.zeros += zeros
        if peak == 0:
            return
        if self.width == 0:
            self.width = peak / BINS
        while self.width * BINS < peak:
            self.counts[:BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2:] = 0
            self.width *= 2
        magnitudes = np.abs(values, dtype=np.float32) if low < 0 else values
        counts = np.bincount((magnitudes / np.float32(self.width)).astype(np.int64), minlength=BINS + 1)
        counts[0] -= zeros
        self.counts += counts[:BINS]
        self.counts[-1] += counts[BINS]  # the peak itself, where it is an edge

    def save(self) -> Dict[str, Any]:
        """All of it, in JSON's types."""
        return {**vars(self), "counts": self.counts.tolist()}

    @staticmethod
    def load(saved: Mapping[str, Any]) -> Range:
        """What `save` gave."""
        collected = Range()
        vars(collected).update(saved, counts=np.array(saved["counts"], np.int64))
        return collected

    @property
    def largest(self) -> float:
        return max(-self.lowest, self.highest)

    @property
    def outlier(self) -> float:
        """How far the largest magnitude lies beyond PERCENTILE: 1 where it does not."""
        return self.largest / percentile(self) if self.largest else 1.0


def minmax(collected: Range) -> float:
    """Nothing is cut."""
    return collected.largest


def average(collected: Range) -> float:
    """The mean of the images' largest magnitudes, so that one odd image does not decide."""
    return collected.peaks / max(collected.images, 1)


def percentile(collected: Range) -> float:
    """PERCENTILE of all magnitudes, zeros among them."""
    below = collected.zeros + np.cumsum(collected.counts)
    place = int(np.searchsorted(below, PERCENTILE / 100 * below[-1]))
    return min((place + 1) * collected.width, collected.largest)


def entropy(collected: Range) -> float:
    """The threshold whose int8 has the least Kullback-Leibler divergence from the magnitudes other than 0 (Migacz,
    8-bit inference with TensorRT, 2017): what is cut counts as if it lay at the threshold."""
    last = int(np.flatnonzero(collected.counts)[-1]) + 1 if collected.counts.any() else 0
    if last < COARSE:
        return collected.largest
    edges = np.linspace(0, last, min(ENTROPY_BINS, last) + 1).round().astype(int)
    counts = np.add.reduceat(collected.counts[:last], edges[:-1]).astype(np.float64)
    best = min(range(COARSE, len(counts) + 1), key=lambda kept: _divergence(counts, kept))
    return min(edges[best] * collected.width, collected.largest)


def _divergence(counts: np.ndarray, kept: int) -> float:
    """Of the first `kept` bins, with the rest added to the last of them, from the same bins told apart in COARSE."""
    expected = counts[:kept].copy()
    expected[-1] += counts[kept:].sum()
    starts = np.arange(COARSE) * kept // COARSE
    used = counts[:kept] > 0
    sums, sizes = np.add.reduceat(counts[:kept], starts), np.add.reduceat(used.astype(np.float64), starts)
    means = np.repeat(sums / np.maximum(sizes, 1), np.diff(np.append(starts, kept)))
    coarse = np.where(used, means, 0)
    if not coarse.any():
        return np.inf
    filled = expected > 0
    p, q = expected[filled] / expected.sum(), np.maximum(coarse[filled] / coarse.sum(), DEAD)
    return float((p * np.log(p / q)).sum())


def mse(collected: Range) -> float:
    """Of MSE_CANDIDATES thresholds that of the least mean squared error, each value taken from the middle of its
    bin (Banner et al., Post training 4-bit quantization, 2019)."""
    last = int(np.flatnonzero(collected.counts)[-1]) + 1 if collected.counts.any() else 0
    values, counts = (np.arange(last) + 0.5) * collected.width, collected.counts[:last]

    def error(limit: float) -> float:
        rounded = np.minimum(np.rint(values * (LEVELS / limit)), LEVELS) * (limit / LEVELS)
        return float(counts @ (values - rounded) ** 2)

    limits = collected.largest * np.arange(1, MSE_CANDIDATES + 1) / MSE_CANDIDATES
    return min(limits, key=error) if last else 0.0


METHODS: Dict[str, Callable[[Range], float]] = {"minmax": minmax, "average": average, "percentile": percentile,
                                                "entropy": entropy, "mse": mse}


def threshold(collected: Range, method: str) -> float:
    """The threshold by a method of METHODS. 1 for a tensor that is always 0; its int8 values are then 0 too."""
    value = METHODS[method](collected)
    return value if value > DEAD else 1.0


def bounds(collected: Range, method: str) -> Tuple[float, float]:
    """The lowest and highest value that int8 keeps, with 0 between or at one of them: a threshold on both sides, but
    no further than values came, so that what is never negative has all levels above 0."""
    most = threshold(collected, method)
    low, high = max(collected.lowest, -most), min(collected.highest, most)
    return (low, high) if high - low > DEAD else (0.0, 1.0)
