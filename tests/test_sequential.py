"""The sequential test of --quick against exact chances, and the parts of photos in a difference of AP."""
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pose.bootstrap import coco_numbers
from pose.matching import THRESHOLDS, Matches
from pose.sequential import ERROR, MARGIN, MISSED, decisions, draw_photos, judge, log_stake, parts_of_difference


def matches(photos: int, seed: int, worse: float) -> Matches:
    """Two people on each photo, of scores that say something of their OKS, and false finds."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(photos), 3)
    hardness = np.random.default_rng(9).uniform(0, 1, len(image))
    false = np.arange(len(image)) % 3 == 2
    hardness[false] += 0.5
    oks = np.where(false, 0, 1 - 0.5 * hardness - worse * rng.random(len(image)))
    order = np.argsort(hardness + rng.normal(0, 0.02, len(image)), kind="stable")
    hit = np.zeros((3, len(THRESHOLDS), len(image)), bool)
    hit[0] = oks[order] >= THRESHOLDS[:, None]
    return Matches(image[order], hit, np.ones_like(hit), np.full((3, photos), 2))


def area(image: np.ndarray, hit: np.ndarray, weights: np.ndarray, people: float) -> float:
    """Of the curve of one threshold, as it is defined: each hit counts as the best precision from there on."""
    found, count, rows = 0.0, 0.0, []
    for one, weight in zip(hit, weights):
        found, count = found + weight * one, count + weight
        rows.append((weight * one, found / count if count else 0.0))
    best, total = 0.0, 0.0
    for weight, precision in reversed(rows):
        best = max(best, precision)
        total += weight * best
    return total / people


def test_parts_are_derivatives_of_the_area_under_the_curves():
    photos = 8
    a, b, weights = matches(photos, 1, 0.1), matches(photos, 2, 0.2), np.linspace(1, 3, photos)
    people, step = 2 * weights.sum(), 1e-6
    ranks = np.concatenate([np.cumsum(weights[side.image]) for side in (a, b)])
    order = np.argsort(ranks, kind="stable")
    image, of_b = np.concatenate([a.image, b.image])[order], (np.arange(len(ranks)) >= len(a.image))[order]
    expected = np.zeros(photos)
    for photo, hit in itertools.product(range(photos), np.concatenate([a.hit[0], b.hit[0]], axis=1)[:, order]):
        moved = np.where(of_b, 1, -1) * (image == photo) * weights[photo] * step
        there, back = (area(image, hit, weights[image] / 2 + side * moved, people) for side in (1, -1))
        expected[photo] += (there - back) / (2 * step) / weights[photo] / len(THRESHOLDS)
    np.testing.assert_allclose(parts_of_difference(a, b, weights), expected, atol=1e-7)


@pytest.mark.parametrize("worse", [0.003, 0.03])
def test_parts_add_up_to_the_difference(worse):
    photos = 600
    a, b, weights = matches(photos, 1, 0.0), matches(photos, 2, worse), np.linspace(1, 3, photos)
    whole = [np.mean([area(side.image, hit, weights[side.image], 2 * weights.sum()) for hit in side.hit[0]])
             for side in (a, b)]
    difference = whole[1] - whole[0]
    assert abs(difference) > worse / 5
    assert weights @ parts_of_difference(a, b, weights) == pytest.approx(difference, rel=0.02, abs=5e-5)


def chance_of(order: tuple, size: np.ndarray) -> float:
    left = size.sum() - np.append(0, np.cumsum(size[list(order)])[:-1])
    return float(np.prod(size[list(order)] / left))


@pytest.mark.parametrize("most", [-0.2, 0.1])
def test_no_stake_is_expected_to_grow_where_what_is_bet_against_is_true(most):
    """Over all orders of six photos, each with its exact chance."""
    size = np.array([1, 1, 2, 3, 5, 8.0])
    share = size / size.sum()
    parts = share * np.array([0.9, -1.0, 0.3, -0.4, 0.0, 0.6])
    parts += share * (most - parts.sum())
    least = -(parts / share).min()
    expected = np.zeros(len(size))
    for order in itertools.permutations(range(len(size))):
        rows = list(order)
        expected += chance_of(order, size) * np.exp(log_stake(parts[rows], share[rows], most, least))
    np.testing.assert_allclose(expected, 1, atol=1e-9)
    assert parts.sum() == pytest.approx(most)


@pytest.mark.parametrize("photos, lost", [(500, 5), (2000, 12), (5000, 30)])
def test_equal_results_are_decided_once_lost_photos_would_have_been_seen(photos, lost):
    """Photos of one person: the chance that n draws miss all of those that hold the difference is hypergeometric."""
    parts, share = np.zeros(photos), np.full(photos, 1 / photos)
    within, outside = decisions(parts, share, (1 - MISSED) * MARGIN * photos / lost)
    needed = int(within.argmax()) + 1
    missed = math.comb(photos - lost, needed) / math.comb(photos, needed)
    assert 0.5 * ERROR < missed <= ERROR
    assert within[needed - 1:].all() and not outside.any()


def test_a_part_of_the_photos_errs_as_seldom_as_it_says():
    """A difference just as large as matters, that five of 1,000 photos hold."""
    photos, rng = 1000, np.random.default_rng(4)
    people = rng.integers(1, 6, photos)
    share = people / people.sum()
    parts = np.zeros(photos)
    parts[:5] = -share[:5] * ((1 - MISSED) * MARGIN / share[:5].sum())
    order = np.argsort(rng.exponential(size=(2000, photos)) / people, axis=1)
    within, outside = decisions(parts[order], share[order], -(parts / share).min())
    early = within[:, :-1].any(axis=1)
    assert 0.01 < early.mean() <= ERROR + 3 * (ERROR * (1 - ERROR) / 2000) ** 0.5
    assert not outside[:, :-1].any()


def test_photos_come_in_proportion_to_what_they_can_do_and_stand_for_the_rest():
    people, boxes = np.array([0, 1, 3, 0, 0]), np.array([0, 1, 3, 2, 0])
    draws = [draw_photos(people, boxes, seed) for seed in range(4000)]
    assert {tuple(sorted(draw.order)) for draw in draws} == {(1, 2, 3)}
    first = np.bincount([draw.order[0] for draw in draws], minlength=5) / len(draws)
    np.testing.assert_allclose(first, [0, 0.2, 0.6, 0.2, 0], atol=5 * (0.24 / 4000) ** 0.5)
    assert (draws[0].weights(3) == 1).all() and (draws[0].weights(1) > 1).all()


def test_a_judgement_of_all_photos_is_the_difference_of_ap():
    a, b = matches(40, 1, 0.1), matches(40, 2, 0.3)
    draw = draw_photos(a.wanted[0], np.full(40, 3), 0)
    found = judge(a, b, draw, 40)
    difference = coco_numbers(b)["AP"] - coco_numbers(a)["AP"]
    assert found == (abs(difference) < MARGIN, difference, 40)
    assert not found.within and judge(a, a, draw, 40).within


def test_a_large_difference_is_decided_on_few_photos():
    photos = 1000
    a, b = matches(photos, 1, 0.0), matches(photos, 2, 0.5)
    draw = draw_photos(a.wanted[0], np.full(photos, 3), 0)
    seen = np.sort(draw.order[:200])
    sides = [Matches(np.searchsorted(seen, side.image[keep]), side.hit[..., keep], side.counts[..., keep],
                     side.wanted[:, seen]) for side in (a, b) for keep in [np.isin(side.image, seen)]]
    found = judge(sides[0], sides[1], draw, 200)
    assert found.within is False
    assert found.difference == pytest.approx(coco_numbers(b)["AP"] - coco_numbers(a)["AP"], abs=0.03)
