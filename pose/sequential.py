"""How many photos are enough to say whether the AP of one result lies within MARGIN of that of another.

Photos are drawn from all that would be scored, without replacement, each next one in proportion to what it can do to AP
at most. Each has a part in the difference of AP; the parts of all photos add up to it. Bets against "the difference is
MARGIN or more" are paid by the parts that come: where that is true the stake can grow to 1 / ERROR times itself with
the chance ERROR at most, whatever the parts are, and however often one looks (Ville's inequality). So a stake that has
grown as much decides. After Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (2024);
Waudby-Smith, Stark and Ramdas, RiLACS (2021), do the same for the votes of an election. A difference that a few photos
hold is not missed: until its photos must have come, the bets have not been won.

AP here is the area under COCO's curves. COCO reads them at 101 recalls, which moves a difference of AP by up to 0.002
where the last recall passes one of the 101; no sample can show that. Axes as in `pose.matching`.
"""
from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

import numpy as np

from pose.bootstrap import coco_numbers
from pose.matching import MOST_RESULTS, THRESHOLDS, Matches

MARGIN, ERROR = 0.003, 0.05
# By how many people's share AP falls at most where one is lost: 2 on a perfect curve, as a hit is gone and a false find
# has come; more on a curve that falls, where the people of the highest scores are lost (benchmarks/enough_photos.py).
WORTH = 3.5
MISSED = 0.1  # of a difference, by which its parts may miss it
MOST = 0.95  # of the stake that could be lost is bet at most
ALL_SIZES = 0  # of AREAS


class Draw(NamedTuple):
    """An order of photos: `order` (I,) their numbers, without those that nobody is on; `size` (I,) of all photos, what
    they can do at most in people; `clock` (I,) when each one comes, which tells the chance that it has come; and how
    many people are annotated."""

    order: np.ndarray
    size: np.ndarray
    clock: np.ndarray
    people: int

    @property
    def least(self) -> float:
        """The least that all parts could add up to, less than -1 as not all can be lost at once."""
        return WORTH * self.size.sum() / self.people

    def weights(self, count: int) -> np.ndarray:
        """(count,) how many photos each of the first `count` stands for."""
        seen = self.order[:count]
        if count == len(self.order):
            return np.ones(count)
        return 1 / -np.expm1(-self.clock[seen[-1]] * self.size[seen])


def draw_photos(people: np.ndarray, boxes: np.ndarray, seed: int) -> Draw:
    """(I,) annotated people and boxes of each photo -> an order in which each next photo is drawn in proportion to its
    size. Half of what a lost person costs is the hit that is gone, half is the false find that has come."""
    size = (people + np.minimum(boxes, MOST_RESULTS)) / 2
    with np.errstate(divide="ignore"):
        clock = np.random.default_rng(seed).exponential(size=len(size)) / size  # never, where nobody is
    return Draw(np.argsort(clock, kind="stable")[:np.count_nonzero(size)], size, clock, int(people.sum()))


class Decision(NamedTuple):
    """Whether the difference of AP lies within MARGIN, None while that is open; the difference, estimated or of all
    photos; and of how many it is known."""

    within: Optional[bool]
    difference: float
    photos: int


def judge(a: Matches, b: Matches, draw: Draw, count: int) -> Decision:
    """What two results on the first `count` photos of `draw`, in ascending order, say of their difference b - a on all.
    Once all photos are there, that is the difference of AP itself."""
    if count == len(draw.order):
        difference = coco_numbers(b)["AP"] - coco_numbers(a)["AP"]
        return Decision(abs(difference) < MARGIN, difference, count)
    ascending, weights, parts = np.argsort(draw.order[:count]), draw.weights(count), np.empty(count)
    parts[ascending] = parts_of_difference(a, b, weights[ascending])
    return Decision(decide(parts, draw), float(weights @ parts), count)


def parts_of_difference(a: Matches, b: Matches, weights: np.ndarray) -> np.ndarray:
    """(I,) what each photo adds to the difference b - a of AP, where photo i stands for `weights[i]` photos; together
    they are the difference, but for MISSED of it at most (benchmarks/enough_photos.py measures that).

    AP changes from a to b along results of which a count less and less and b more and more; halfway its derivative by
    each result is taken. Results meet by their ranks, so a change of all scores that keeps their order adds nothing.
    """
    sides = (a, b)
    ranks = np.concatenate([np.cumsum(weights[side.image]) for side in sides])
    order = np.argsort(ranks, kind="stable")
    image = np.concatenate([side.image for side in sides])[order]
    sign = np.repeat((-1.0, 1.0), [len(side.image) for side in sides])[order]
    hits, counts = (np.concatenate([getattr(side, name)[ALL_SIZES] for side in sides], axis=1)[:, order]
                    for name in ("hit", "counts"))
    worth = sum(_worth(hit, weights[image] * count / 2) * count for hit, count in zip(hits, counts))
    return np.bincount(image, sign * worth, len(weights)) / (weights @ a.wanted[ALL_SIZES]) / len(THRESHOLDS)


def _worth(hit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(D,) derivative by the weight of each result, of people times the area under one curve: a hit adds its precision
    and raises that of the hits that count on it; every result takes from them."""
    at = np.nonzero(hit & (weights > 0))[0]
    worth = np.zeros(len(hit))
    if not len(at):
        return worth
    total = np.maximum(np.cumsum(weights), 1e-12)
    precision = np.cumsum(weights * hit) / total
    best = np.maximum.accumulate(precision[at][::-1])[::-1]
    places = np.where(precision[at] >= best, np.arange(len(at)), len(at))
    reads = at[np.minimum.accumulate(places[::-1])[::-1]]  # where the highest precision from each hit on is
    mass = np.bincount(reads, weights[at], len(hit)) / total
    raised, taken = (np.cumsum(values[::-1])[::-1] for values in (mass, mass * precision))
    worth[at] = precision[reads] + raised[at]
    return worth - taken


def decide(parts: np.ndarray, draw: Draw) -> Optional[bool]:
    """(n,) parts of the first n photos of `draw` -> whether the difference of AP lies within MARGIN; None where that is
    not decided."""
    share = draw.size[draw.order]
    within, outside = (bool(rows[-1]) for rows in decisions(parts, share / share.sum(), draw.least))
    return within if within or outside else None


def decisions(parts: np.ndarray, share: np.ndarray, least: float) -> Tuple[np.ndarray, np.ndarray]:
    """(..., n) parts of what was drawn, and (..., I) shares by which all were, in the order of the draw -> (..., n)
    whether the parts up to there decide that the difference lies within MARGIN, and whether, that it does not."""
    share = share[..., :parts.shape[-1]]
    low, high = (log_stake(side * parts, share, (MISSED - 1) * MARGIN, least) for side in (1, -1))
    within = np.minimum(low, high) >= -np.log(ERROR)  # where the one is false, the other is true
    outside = np.maximum(*(log_stake(side * parts, share, (1 + MISSED) * MARGIN, least) for side in (1, -1)))
    return within, outside >= -np.log(ERROR / 2)  # either may err


def log_stake(parts: np.ndarray, share: np.ndarray, most: float, least: float) -> np.ndarray:
    """(..., n) parts and their shares -> (..., n) what a stake of 1 has become, as a logarithm, of bets that all parts
    add up to more than `most`.

    No part is below -`least` times its share. Each bet is what would have grown fastest on the parts before it
    (Waudby-Smith and Ramdas' aGRAPA).
    """
    drawn = parts / share
    so_far, gone, total, squares = (np.cumsum(values, axis=-1) - values
                                    for values in (parts, share, drawn, drawn ** 2))
    expected = (most - so_far) / (1 - gone)  # of the next one, where all add up to `most`
    count = np.arange(1, parts.shape[-1] + 1)
    mean = total / count
    ahead = np.maximum(mean - expected, 0)
    spread = np.maximum(squares / count - mean ** 2, 0)
    room = np.maximum(least + expected, 1e-12)
    bet = np.minimum(ahead / np.maximum(spread + ahead ** 2, 1e-12), MOST / room)
    with np.errstate(divide="ignore"):
        stake = np.cumsum(np.log(np.maximum(1 + bet * (drawn - expected), 0)), axis=-1)
    return np.where(np.minimum.accumulate(expected, axis=-1) < -least, np.inf, stake)  # the rest cannot be as low
