"""Would a sequential test of AP be right, by simulation: how often it errs, and how much of the photos it needs.

    python3 benchmarks/enough_photos.py [--campaigns 1000]

A campaign looks at some of the photos, then at more, and ends when AP of the other side is decided to lie within
MARGIN of the reference's, or outside; else it looks at all, which decides without error. Two ways to choose photos:
evenly, with a normal interval of the photos' influence on AP; and the crowded ones first (Poisson sampling
proportional to people, as in Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992), with an interval
that also holds what photos that nobody has seen can do at most (Bernstein's inequality). The looks share the error of
5 % evenly.
"""
from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Callable, List, NamedTuple, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ap_intervals import Population, make_population  # noqa: E402
from contract.arguments import HelpFormatter, at_least, parse  # noqa: E402
from contract.tables import format_table  # noqa: E402
from pose.bootstrap import _of_area  # noqa: E402
from pose.matching import Matches  # noqa: E402

MARGIN, ERROR = 0.003, 0.05
LOOKS = (0.125, 0.25, 0.5)  # shares of the photos; the last look is at all of them
PHOTOS, AT_ONCE = 2500, 50  # val2017 has 2,346 photos with annotated joints
LOST = 1.5  # by how many people's share AP falls at most when one is lost: a hit less, and a false find more
GRID = 0.0007  # by which AP jumps where the last recall passes one of the 101


class Planted(NamedTuple):
    """A pair of results whose difference of AP is known, and each photo's part in it: (I,), which add up to it."""

    pair: Tuple[Matches, Matches]
    people: np.ndarray
    found: np.ndarray
    parts: np.ndarray
    truth: float


def ap(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """(R, I) weights -> (R,) AP of all sizes."""
    return _of_area(matches, 0, weights)[0].mean(axis=1)


def influence(matches: Matches) -> np.ndarray:
    """(I,) derivative of the area under the curves by a photo's weight, without the grid of 101 recalls: a hit adds its
    precision, and moves that of the hits behind it; each annotated person takes his share of all."""
    wanted, parts = matches.wanted[0], np.zeros(matches.wanted.shape[1])
    total = wanted.sum()
    for hit in matches.hit[0]:
        rank = np.arange(1, len(hit) + 1)
        precision = np.cumsum(hit) / rank
        behind = np.cumsum((hit / rank)[::-1])[::-1]  # a hit more raises every later precision by 1 / rank
        lowered = np.cumsum((hit * precision / rank)[::-1])[::-1]  # a result more lowers it by precision / rank
        parts += np.bincount(matches.image, hit * (precision + behind) - lowered, len(parts)) / total
        parts -= wanted * (hit * precision).sum() / total ** 2
    return parts / len(matches.hit[0])


def plant(population: Population, change: Callable[[float], Population], difference: float) -> Planted:
    """Change the other side as much as makes AP fall by `difference`, as closely as it can be from above."""
    everything = np.ones((1, PHOTOS))
    reference = float(ap(population.of(np.arange(PHOTOS))[0], everything)[0])
    low, high = 0.0, 1.0
    for _ in range(25):
        middle = (low + high) / 2
        fall = reference - float(ap(change(middle).of(np.arange(PHOTOS))[1], everything)[0])
        low, high = (middle, high) if fall < difference else (low, middle)
    pair = change(high if difference else 0.0).of(np.arange(PHOTOS))
    truth = float(ap(pair[1], everything)[0]) - reference
    return Planted(pair, pair[0].wanted[0], np.bincount(pair[0].image, minlength=PHOTOS),
                   influence(pair[1]) - influence(pair[0]), truth)


def spread(population: Population, amount: float) -> Population:
    """All OKS a little lower, with noise of the same size."""
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.2 * amount, len(population.oks[0])) if amount else 0
    return population._replace(oks=(population.oks[0], np.clip(population.oks[0] - 0.2 * amount + noise, 0, 1)))


def crowds_lost(population: Population, amount: float) -> Population:
    """Nobody is found on the most crowded photos, the last of them in part."""
    order = np.argsort(-np.bincount(population.photo, minlength=PHOTOS), kind="stable")
    lost = np.nonzero(np.isin(population.photo, order[:40]))[0]
    lost = lost[np.argsort(np.argsort(order)[population.photo[lost]], kind="stable")][:round(amount * len(lost))]
    oks = population.oks[0].copy()
    oks[lost] = 0
    return population._replace(oks=(population.oks[0], oks))


def evenly(planted: Planted, share: float) -> Tuple[np.ndarray, float]:
    """(I,) chance of a photo to be looked at, and what unseen photos are granted."""
    return np.full(PHOTOS, share), 0.0


def crowded_first(planted: Planted, share: float) -> Tuple[np.ndarray, float]:
    size = np.maximum(planted.people, 1)
    low, high = 0.0, 2.0
    for _ in range(40):
        rate = (low + high) / 2
        low, high = (rate, high) if np.minimum(rate * size, 1).mean() < share else (low, rate)
    rare = LOST / planted.people.sum() / rate if np.minimum(rate * size, 1).min() < 1 else 0.0
    return np.minimum(rate * size, 1), rare * np.log(len(LOOKS) / ERROR)


def campaigns(planted: Planted, way: Callable, grid: float, seed: int) -> np.ndarray:
    """(AT_ONCE, 3): whether it erred, the share of photos and the share of crops that it took."""
    drawn = np.random.default_rng(seed).random((AT_ONCE, PHOTOS))  # the same for all looks: more join, none leaves
    z, decided, result = NormalDist().inv_cdf(1 - ERROR / len(LOOKS)), np.zeros(AT_ONCE, bool), np.ones((AT_ONCE, 3))
    result[:, 0] = 0
    for share in LOOKS:
        rows = np.nonzero(~decided)[0]
        if not len(rows):
            break
        chance, unseen = way(planted, share)
        seen = drawn[rows] < chance
        weights = np.where(seen, 1 / chance, 0).astype(np.float32)
        found = ap(planted.pair[1], weights) - ap(planted.pair[0], weights)
        spent = ((weights * planted.parts) ** 2 * (1 - chance)).sum(axis=1)
        half = z * np.sqrt(spent) + unseen + grid
        within, outside = np.abs(found) + half < MARGIN, np.abs(found) - half > MARGIN
        wrong = within if abs(planted.truth) >= MARGIN else outside
        values = np.stack([wrong, seen.mean(axis=1), seen @ planted.found / planted.found.sum()], axis=1)
        ends = within | outside
        result[rows[ends]], decided[rows[ends]] = values[ends], True
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--campaigns", type=at_least(AT_ONCE), default=1000, help="of each row")
    args = parse(parser, None)
    population = make_population(PHOTOS, 11, 0.0, 0.0)
    ways = {"evenly": (evenly, 0.0), "evenly, and the grid": (evenly, GRID),
            "crowded first, and the grid": (crowded_first, GRID)}
    rows: List[List[str]] = []
    with ProcessPoolExecutor() as pool:
        for shape, change in (("spread", spread), ("crowds lost", crowds_lost)):
            for difference in (0.003, 0.0, 0.0045, 0.0015, 0.01):
                planted = plant(population, partial(change, population), difference)
                for name, (way, grid) in ways.items():
                    runs = range(args.campaigns // AT_ONCE)
                    done = np.concatenate(list(pool.map(partial(campaigns, planted, way, grid), runs, chunksize=4)))
                    shares = np.median(done[:, 1:], axis=0)
                    rows.append([shape, f"{planted.truth:+.5f}", name, f"{100 * done[:, 0].mean():.1f} %",
                                 *(f"{100 * one:.0f} %" for one in shares)])
                    print(rows[-1], flush=True)
    print(format_table(["fault", "true difference", "photos are looked at", "erred", "median share of photos",
                        "of crops"], rows))


if __name__ == "__main__":
    main()
