"""How many photos are enough: whether one AP is within a margin of another, decided as soon as it can be.

Photos come in random order. At each look, at fixed shares of all photos, an interval holds the difference that all
photos would give; the answer stands when the interval lies within the margin or outside it. With all photos the
difference is exact. Each of the earlier looks may err with ERROR / their number, so that together they err with ERROR
at most, however they depend on each other (the union bound, with Pocock's equal shares).

AP is no mean over photos, so its error is that of a bootstrap of REPLICATES, with Student's quantile for so few. Photos
come without replacement, so the variance shrinks by the share that is seen. What is rare may not have been seen at all:
photos that one side loses altogether. As Wilson's interval does for a proportion, z^2 / 2 such photos are added on both
sides.
"""
from __future__ import annotations

import dataclasses
import math
from typing import List, Optional, Tuple

import numpy as np

from pose.bootstrap import drawn_differences, same_matches, t_quantile, weighted_ap
from pose.matching import Matches

SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)  # of all photos, at which to look; and then at all
MARGIN = 0.003  # of AP
ERROR = 0.05  # of a wrong answer, over all looks
REPLICATES = 40
LEAST = 100  # photos at the first look


@dataclasses.dataclass(frozen=True)
class Decision:
    """After `photos` of `of`: `difference` of the APs b - a, the interval about it, and whether that of all photos is
    within the margin; None while that is open."""

    photos: int
    of: int
    difference: float
    low: float
    high: float
    within: Optional[bool]


def look_sizes(photos: int) -> List[int]:
    """Numbers of photos to look at, the last of them all."""
    early = [round(share * photos) for share in SHARES]
    return [*(size for size in early if size >= LEAST), photos]


def decide(a: Matches, b: Matches, of: int, margin: float = MARGIN, seed: int = 0) -> Decision:
    """Both results on the same photos, a random sample of all `of` photos, at one of the looks."""
    photos = a.wanted.shape[1]
    difference, error = standard_error(a, b, seed)
    half = half_width(error, photos, of)
    low, high = difference - half, difference + half
    within = True if -margin <= low and high <= margin else False if low > margin or high < -margin else None
    return Decision(photos, of, difference, low, high, within)


def standard_error(a: Matches, b: Matches, seed: int) -> Tuple[float, float]:
    """Difference of the APs b - a, and its standard error when photos are drawn from infinitely many."""
    everything = np.ones((1, a.wanted.shape[1]))
    difference = weighted_ap(b, everything) - weighted_ap(a, everything)
    if same_matches(a, b):
        return 0.0, 0.0
    drawn = drawn_differences(a, b, REPLICATES, seed, weighted_ap)
    return float(difference[0]), float(np.nanstd(drawn, ddof=1))


def half_width(error: float, photos: int, of: int) -> float:
    """Of the interval at a look at `photos`, one of several where it is not the last; 0 where all are seen."""
    if photos == of:
        return 0.0
    unseen, z = 1 - photos / of, t_quantile(1 - ERROR / (len(look_sizes(of)) - 1), REPLICATES - 1)
    one = z * unseen / photos  # a photo that one side loses, times z
    return z * (one / 2 + math.sqrt(unseen * error ** 2 + (one / 2) ** 2))
