"""How often the interval of a difference of APs holds the true one, by simulation.

    python3 benchmarks/ap_intervals.py [--photos 150] [--samples 500] [--replicates 500]

Populations of photos are made with known people, results and OKS, so that the true difference is known, and samples are
drawn from them.
"""
from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import List, NamedTuple, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contract.arguments import HelpFormatter, at_least, parse  # noqa: E402
from contract.tables import format_table  # noqa: E402
from pose.bootstrap import coco_numbers, difference_intervals  # noqa: E402
from pose.matching import AREAS, THRESHOLDS, Matches  # noqa: E402
from pose.score import METRICS  # noqa: E402


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


def make_population(photos: int, seed: int, blur: float, drop: float) -> Population:
    """Crowded and empty photos, easy and hard people, false finds. On the second side the OKS of each result is lowered
    by `drop` and moved by `blur` at random."""
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
    moved = np.clip(oks - drop + rng.normal(0, blur, len(oks)), 0, 1)
    return Population(photo, size, (oks, moved), (score, score + rng.normal(0, blur / 20, len(oks))), wanted)


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
            population = make_population(20000, 11, blur, drop)
            held = np.array(list(pool.map(partial(covered, population, photos, replicates), range(samples),
                                          chunksize=10)))
            rows.append([name, photos, samples, *(f"{share:.3f}" for share in held.mean(axis=0))])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--photos", type=at_least(1), nargs="+", default=[150], help="in a sample")
    parser.add_argument("--samples", type=at_least(1), default=500, help="of each population")
    parser.add_argument("--replicates", type=at_least(2), default=500, help="of the bootstrap")
    args = parse(parser, None)
    for photos in args.photos:
        print(format_table(["second side", "photos", "samples", *METRICS],
                           run_coverage(photos, args.samples, args.replicates)), flush=True)


if __name__ == "__main__":
    main()
