"""What the interval of a difference of APs and the test of `--quick` promise, by simulation.

    python3 benchmarks/enough_photos.py campaigns [--campaigns 1000]
    python3 benchmarks/enough_photos.py coverage [--samples 1000]

Populations of photos are made with known people, results and OKS, so that the true difference is known. `campaigns`
draws the photos of each in random order, as often as asked, and counts wrong answers and photos used; the populations
lie at the margin, where a wrong answer is most likely, and elsewhere. `coverage` draws samples and counts how often the
interval of compare.py holds the true difference.
"""
from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contract.arguments import HelpFormatter, at_least, parse  # noqa: E402
from contract.progress import Progress  # noqa: E402
from contract.tables import format_table  # noqa: E402
from pose.bootstrap import coco_numbers, difference_intervals, weighted_ap  # noqa: E402
from pose.matching import AREAS, THRESHOLDS, Matches  # noqa: E402
from pose.score import METRICS  # noqa: E402
from pose.sequential import MARGIN, decide, look_sizes  # noqa: E402

OUTSIDE = 1.02  # times the margin: a population just beyond it


class Population(NamedTuple):
    """R results of both sides on the same people: (R,) photo, size, and by side (R,) OKS and scores; (A, I) annotated
    people of each photo."""

    photo: np.ndarray
    size: np.ndarray
    oks: Tuple[np.ndarray, np.ndarray]
    scores: Tuple[np.ndarray, np.ndarray]
    wanted: np.ndarray

    def of(self, photos: np.ndarray) -> Tuple[Matches, Matches]:
        """Both results on some photos (n,), as pose.matching gives them."""
        place = np.full(self.wanted.shape[1], -1)
        place[photos] = np.arange(len(photos))
        rows = np.nonzero(place[self.photo] >= 0)[0]
        inside = (self.size[rows] == np.arange(len(AREAS))[:, None]) | (np.arange(len(AREAS)) == 0)[:, None]
        sides = []
        for oks, scores in zip(self.oks, self.scores):
            order = rows[np.argsort(-scores[rows], kind="stable")]
            counts = np.broadcast_to(inside[:, None, np.argsort(-scores[rows], kind="stable")],
                                     (len(AREAS), len(THRESHOLDS), len(rows)))
            hit = (oks[order] >= THRESHOLDS[:, None])[None] & counts
            sides.append(Matches(place[self.photo[order]], hit, counts, self.wanted[:, photos]))
        return sides[0], sides[1]


def make_population(photos: int, seed: int, blur: float, drop: float, broken: float) -> Population:
    """Crowded and empty photos, easy and hard people, false finds. On the second side the OKS of each result is lowered
    by `drop` and moved by `blur` at random, and a share `broken` of the photos is lost."""
    rng = np.random.default_rng(seed)
    crowd = rng.poisson(rng.gamma(0.8, 2.5, photos))
    photo = np.repeat(np.arange(photos), crowd)
    hardness = np.repeat(rng.normal(0, 0.6, photos), crowd) + rng.normal(0, 0.8, len(photo))
    oks = 1 / (1 + np.exp(-(1.9 - 1.2 * hardness)))
    score = oks + rng.normal(0, 0.12, len(oks))
    size = rng.integers(1, len(AREAS), len(photo))
    wanted = np.stack([np.bincount(photo, (size == area) | (area == 0), photos) for area in range(len(AREAS))])
    false = rng.integers(0, photos, photos // 3)  # results where nobody is
    photo, size = np.append(photo, false), np.append(size, rng.integers(1, len(AREAS), len(false)))
    oks, score = np.append(oks, rng.uniform(0, 0.45, len(false))), np.append(score, rng.uniform(0.01, 0.6, len(false)))
    lost = np.isin(photo, rng.permutation(photos)[:int(broken * photos)])
    moved = np.where(lost, 0.1, np.clip(oks - drop + rng.normal(0, blur, len(oks)), 0, 1))
    return Population(photo, size, (oks, moved), (score, score + rng.normal(0, blur / 20, len(oks))), wanted)


def true_difference(population: Population) -> float:
    a, b = population.of(np.arange(population.wanted.shape[1]))
    everything = np.ones((1, population.wanted.shape[1]))
    return float((weighted_ap(b, everything) - weighted_ap(a, everything))[0])


def at_difference(wanted: float, make: Callable[[float], Population], most: float, beyond: bool = True) -> Population:
    """The population whose true difference is next to `-wanted`, beyond it or not, of those that `make` gives from 0 to
    `most`. AP jumps where the last recall passes one of the 101 that it is read at."""
    low, high = 0.0, most
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if true_difference(make(middle)) > -wanted else (low, middle)
    return make(high if beyond else low)


def populations(photos: int) -> Dict[str, Population]:
    """By name; those at the margin are beyond it by 2 % of it at least."""
    beyond = OUTSIDE * MARGIN
    lower = {f"{name}, every OKS a little lower": at_difference(beyond, lambda drop, blur=blur: make_population(
        photos, 1, blur, drop, 0), 0.1) for name, blur in (("at the margin", 0.002), ("at the margin, blurred", 0.02))}
    return {
        **lower,
        "at the margin, photos lost": at_difference(beyond, lambda broken: make_population(photos, 2, 0.001, 0, broken),
                                                    0.1),
        "just within": at_difference(0.9 * MARGIN, lambda drop: make_population(photos, 3, 0.001, drop, 0), 0.1,
                                     False),
        "half the margin": at_difference(0.5 * MARGIN, lambda drop: make_population(photos, 4, 0.001, drop, 0), 0.1),
        "rounding": make_population(photos, 5, 0.0005, 0, 0),
        "the same": make_population(photos, 6, 0, 0, 0),
        "twice the margin": at_difference(2 * MARGIN, lambda drop: make_population(photos, 7, 0.005, drop, 0), 0.2),
        "five times the margin": at_difference(5 * MARGIN, lambda drop: make_population(photos, 8, 0.01, drop, 0), 0.3),
    }


def campaign(population: Population, seed: int) -> Tuple[bool, int]:
    """Photos in random order until it is decided: the answer, and how many were looked at."""
    photos = population.wanted.shape[1]
    order = np.random.default_rng(seed).permutation(photos)
    for size in look_sizes(photos):
        decision = decide(*population.of(np.sort(order[:size])), photos, seed=seed)
        if decision.within is not None:
            return decision.within, size
    raise AssertionError("all photos decide")


def run_campaigns(photos: int, campaigns: int) -> List[List[str]]:
    rows = []
    with ProcessPoolExecutor() as pool:
        for name, population in Progress(list(populations(photos).items()), unit="population", desc="campaigns"):
            truth = true_difference(population)
            answers = list(pool.map(partial(campaign, population), range(campaigns), chunksize=20))
            wrong = sum(within != (abs(truth) <= MARGIN) for within, _ in answers)
            used = np.array([size for _, size in answers]) / photos
            rows.append([name, photos, f"{truth:+.5f}", campaigns, f"{100 * wrong / campaigns:.2f} %",
                         f"{100 * np.median(used):.0f} %", f"{100 * used.mean():.0f} %"])
    return rows


def covered(population: Population, photos: int, replicates: int, seed: int) -> np.ndarray:
    """(10,) whether the interval of a sample holds the true differences, which are those of all photos."""
    rng = np.random.default_rng(seed)
    pair = population.of(np.sort(rng.choice(population.wanted.shape[1], photos, replace=False)))
    found = difference_intervals(*pair, replicates, seed, 1)
    whole = [coco_numbers(side) for side in population.of(np.arange(population.wanted.shape[1]))]
    return np.array([found[name][0] <= whole[1][name] - whole[0][name] <= found[name][1] for name in METRICS])


def run_coverage(photos: int, samples: int, replicates: int) -> List[List[str]]:
    rows = []
    with ProcessPoolExecutor() as pool:
        for name, blur, drop in (("rounding", 0.005, 0.0), ("lower", 0.01, 0.01), ("blurred", 0.05, 0.0)):
            population = make_population(20000, 11, blur, drop, 0)
            held = np.array(list(pool.map(partial(covered, population, photos, replicates), range(samples),
                                          chunksize=10)))
            rows.append([name, photos, samples, *(f"{share:.3f}" for share in held.mean(axis=0))])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("what", choices=("campaigns", "coverage"))
    parser.add_argument("--photos", type=at_least(1), nargs="+", default=[1000], help="in a population, or in a sample")
    parser.add_argument("--campaigns", type=at_least(1), default=1000, help="of each population")
    parser.add_argument("--samples", type=at_least(1), default=1000, help="of each population")
    parser.add_argument("--replicates", type=at_least(1), default=500, help="of the bootstrap")
    args = parse(parser, None)
    for photos in args.photos:
        if args.what == "campaigns":
            print(format_table(["population", "photos", "true difference of AP", "campaigns", "wrong",
                                "median share used", "mean share used"], run_campaigns(photos, args.campaigns)),
                  flush=True)
        else:
            print(format_table(["second side", "photos", "samples", *METRICS],
                               run_coverage(photos, args.samples, args.replicates)), flush=True)


if __name__ == "__main__":
    main()
