"""Is the sequential test of --quick right, by simulation: how often it errs, and how much of the photos it needs.

    python3 benchmarks/enough_photos.py [--photos 500 2000 5000] [--campaigns 10000] [--estimated 40]
        [--pair NAME ANNOTATIONS KEYPOINTS KEYPOINTS ...]

Differences of AP are planted in simulated results, most of them just outside of MARGIN, where a wrong yes is most
likely. A campaign draws the photos as --quick does and looks as often. The parts of the photos in the difference are
known here, so that 10,000 campaigns of 5,000 photos are possible; `--estimated` campaigns take them from the photos
that were drawn, as --quick must. With --pair real results are drawn with replacement to so many photos, in place of
simulated ones.
"""
from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ap_intervals import Population, make_population  # noqa: E402
from contract.arguments import HelpFormatter, at_least, parse  # noqa: E402
from contract.files import read_json  # noqa: E402
from contract.tables import format_table  # noqa: E402
from jobs.quick import parts_of  # noqa: E402
from pose.annotations import load_annotations  # noqa: E402
from pose.bootstrap import coco_numbers  # noqa: E402
from pose.matching import Matches, load_truth, match_results  # noqa: E402
from pose.sequential import MARGIN, Draw, decisions, draw_photos, judge, parts_of_difference  # noqa: E402

AT_ONCE = 50  # campaigns
Pair = Tuple[Matches, Matches]
Change = Callable[[float], Population]


def pair_of(population: Population) -> Pair:
    return population.of(np.arange(population.wanted.shape[1]))


def area(matches: Matches) -> float:
    """Under the curves of all thresholds: every hit counts as the highest precision from there on."""
    total = 0.0
    for hit in matches.hit[0]:
        at = np.nonzero(hit)[0]
        precision = np.arange(1, len(at) + 1) / (at + 1)
        total += np.maximum.accumulate(precision[::-1]).sum()
    return total / matches.wanted[0].sum() / len(matches.hit[0])


def area_difference(pair: Pair) -> float:
    return area(pair[1]) - area(pair[0])


def just_beyond(change: Change, difference: float) -> Pair:
    """The least change that makes AP fall by `difference`; the whole change, where that is not enough."""
    low, high = 0.0, 1.0
    for _ in range(18):
        middle = (low + high) / 2
        low, high = (middle, high) if area_difference(pair_of(change(middle))) > -difference else (low, middle)
    return pair_of(change(high))


def spread(population: Population, amount: float) -> Population:
    """All OKS a little lower, with noise of the same size."""
    noise = np.random.default_rng(5).normal(0, 0.2 * amount, len(population.oks[0]))
    return population._replace(oks=(population.oks[0], np.clip(population.oks[0] - 0.2 * amount + noise, 0, 1)))


def lost(population: Population, rows: np.ndarray, amount: float) -> Population:
    """The first of the results `rows` find nobody; their scores stay."""
    oks = population.oks[1].copy()
    oks[rows[:round(amount * len(rows))]] = 0
    return population._replace(oks=(population.oks[0], oks))


def false_finds_first(population: Population, amount: float) -> Population:
    """False finds get the highest scores, one in each of some photos."""
    rows = np.nonzero(population.oks[0] < 0.45)[0][::-1]
    scores = population.scores[1].copy()
    scores[rows[:round(0.02 * amount * len(rows))]] += 10
    return population._replace(scores=(population.scores[0], scores))


def on_photos(population: Population, count: int) -> np.ndarray:
    """Results on so many photos, which together hold about as many people as must be lost."""
    people = population.wanted[0]
    wanted = 1.3 * MARGIN * people.sum() / count
    chosen = np.argsort(np.abs(people - max(wanted, 1)), kind="stable")[:count]
    return np.nonzero(np.isin(population.photo, chosen))[0]


def planted(photos: int) -> Iterator[Tuple[str, Pair]]:
    plain = make_population(photos, 3, 0.0, 0.0)
    yield "none", pair_of(plain)
    yield "rounding", pair_of(make_population(photos, 3, 0.002, 0.0))
    yield "noise of 0.005 in OKS", pair_of(make_population(photos, 3, 0.005, 0.0))
    for difference in (0.0015, MARGIN, 0.006, 0.02):
        yield "spread", just_beyond(partial(spread, plain), difference)
    for count in (1, 5, 20, photos // 100):
        yield f"lost on {count} photos", just_beyond(partial(lost, plain, on_photos(plain, count)), MARGIN)
    crowded = np.argsort(-np.bincount(plain.photo)[plain.photo], kind="stable")
    yield "crowds lost", just_beyond(partial(lost, plain, crowded[:200]), MARGIN)
    surest = np.argsort(-plain.scores[0], kind="stable")
    alone = surest[np.bincount(plain.photo)[plain.photo[surest]] == 1]
    yield "surest people lost", just_beyond(partial(lost, plain, surest[:200]), MARGIN)
    yield "surest lost, alone on theirs", just_beyond(partial(lost, plain, alone[:200]), MARGIN)
    found = just_beyond(partial(lost, plain, on_photos(plain, 20)), MARGIN)
    yield "found on 20 photos", (found[1], found[0])
    yield "false finds first", just_beyond(partial(false_finds_first, plain), MARGIN)
    small = spread(plain, 0.008)
    half = area_difference(pair_of(small))
    small = small if half > -MARGIN else plain
    yield "many small, few large", just_beyond(partial(lost, small, on_photos(plain, 5)), MARGIN)


def real_pair(annotations: str, a: str, b: str) -> Pair:
    truth = load_truth(load_annotations(annotations), None)
    sides = [match_results(truth, read_json(path, "keypoints")) for path in (a, b)]
    return sides[0], sides[1]


def drawn_with_replacement(pair: Pair, count: int) -> Pair:
    photos = np.random.default_rng(2).integers(pair[0].wanted.shape[1], size=count)
    return repeated(pair[0], photos), repeated(pair[1], photos)


def repeated(matches: Matches, photos: np.ndarray) -> Matches:
    """Photos (n,) of those of `matches`, each a new one."""
    order = np.argsort(photos, kind="stable")
    times = np.bincount(photos, minlength=matches.wanted.shape[1])
    first, many = np.cumsum(times) - times, times[matches.image]
    rows = np.repeat(np.arange(len(many)), many)
    copy = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
    return Matches(order[first[matches.image[rows]] + copy], matches.hit[..., rows], matches.counts[..., rows],
                   matches.wanted[:, photos])


def of_photos(matches: Matches, photos: np.ndarray) -> Matches:
    """Those on some photos, in ascending order."""
    place = np.full(matches.wanted.shape[1], -1)
    place[photos] = np.arange(len(photos))
    rows = np.nonzero(place[matches.image] >= 0)[0]
    return Matches(place[matches.image[rows]], matches.hit[..., rows], matches.counts[..., rows],
                   matches.wanted[:, photos])


class Outcome(NamedTuple):
    """(C,) of campaigns: answers (1 within, -1 not, 0 all photos used), shares of photos and of their people."""

    answer: np.ndarray
    photos: np.ndarray
    people: np.ndarray


def draw_for(pair: Pair, seed: int) -> Draw:
    photos = pair[0].wanted.shape[1]
    boxes = np.maximum(*(np.bincount(side.image, minlength=photos) for side in pair))
    return draw_photos(pair[0].wanted[0], boxes, seed)


def known_parts(pair: Pair, parts: np.ndarray, campaigns: int) -> Outcome:
    draw = draw_for(pair, 0)
    used, rng, outcomes = draw.order, np.random.default_rng(1), []
    ends = np.array([end for _, end in parts_of(len(used))][:-1], int) - 1
    for _ in range(-(-campaigns // AT_ONCE)):
        order = used[np.argsort(rng.exponential(size=(AT_ONCE, len(used))) / draw.size[used], axis=1)]
        share = draw.size[order] / draw.size[used].sum()
        within, outside = (rows[:, ends] for rows in decisions(parts[order], share, draw.least))
        ended = np.append(within | outside, np.ones((AT_ONCE, 1), bool), axis=1).argmax(axis=1)
        answers = np.append(np.where(within, 1, -1), np.zeros((AT_ONCE, 1), int), axis=1)
        rows, last = np.arange(AT_ONCE), np.append(ends, len(used) - 1)[ended]
        outcomes.append((answers[rows, ended], (last + 1) / len(used), np.cumsum(share, axis=1)[rows, last]))
    return Outcome(*map(np.concatenate, zip(*outcomes)))


def estimated_parts(pair: Pair, campaigns: int) -> Outcome:
    """As --quick does."""
    outcomes = []
    for seed in range(campaigns):
        draw = draw_for(pair, seed)
        for _, end in parts_of(len(draw.order)):
            seen = np.sort(draw.order[:end])
            within = judge(of_photos(pair[0], seen), of_photos(pair[1], seen), draw, end).within
            if within is not None:
                break
        answer = 0 if end == len(draw.order) else 1 if within else -1
        outcomes.append((answer, end / len(draw.order), draw.size[seen].sum() / draw.size.sum()))
    return Outcome(*map(np.array, zip(*outcomes)))


def erred(outcome: Outcome, difference: float) -> str:
    return f"{100 * (outcome.answer == (1 if abs(difference) >= MARGIN else -1)).mean():.2f} %"


def cells(outcome: Outcome) -> List[str]:
    return [*(f"{100 * (outcome.answer == answer).mean():.0f} %" for answer in (1, -1)),
            *(f"{100 * np.median(share):.0f} %" for share in outcome[1:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--photos", type=at_least(100), nargs="+", default=[500, 2000, 5000], help="in all")
    parser.add_argument("--campaigns", type=at_least(AT_ONCE), default=10000, help="of each row")
    parser.add_argument("--estimated", type=at_least(1), default=40, help="campaigns with estimated parts")
    parser.add_argument("--pair", nargs=4, action="append", default=[], metavar="WORD", help="name of two real "
                        "results, their annotations, and the keypoints.json of both")
    args = parse(parser, None)
    pairs: Dict[str, Pair] = {name: real_pair(*files) for name, *files in args.pair}
    head = ["photos", "fault", "difference: area", "its parts", "COCO's AP", "erred", "by COCO's AP", "within",
            "not within", "photos, median", "people, median", "estimated: erred", "within", "not within", "photos",
            "people"]
    for photos in args.photos:
        rows = []
        real = ((name, drawn_with_replacement(pair, photos)) for name, pair in pairs.items())
        for name, pair in real if pairs else planted(photos):
            parts = parts_of_difference(*pair, np.ones(photos))
            under, (a, b) = area_difference(pair), (coco_numbers(side)["AP"] for side in pair)
            known, estimated = known_parts(pair, parts, args.campaigns), estimated_parts(pair, args.estimated)
            rows.append([photos, name, *(f"{one:+.5f}" for one in (under, parts.sum(), b - a)), erred(known, under),
                         erred(known, b - a), *cells(known), erred(estimated, under), *cells(estimated)])
            print(*rows[-1], sep=" | ", flush=True)
        print(format_table(head, rows), flush=True)


if __name__ == "__main__":
    main()
