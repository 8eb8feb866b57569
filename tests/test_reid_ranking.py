"""Distances, ranks and re-ranking: FastReID's numbers (tests/golden/fastreid.py), and an independent count."""
from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT
from golden import fastreid

from contract.errors import UserError
from reid.ranking import (
    DISTANCES,
    cosine_distance,
    euclidean_distance,
    expand_queries,
    rank,
    re_rank,
    re_rank_as_evaluator,
)


@pytest.fixture(scope="module")
def golden():
    with np.load(ROOT / "tests" / "golden" / "fastreid_current.npz") as arrays:
        return {name: arrays[name] for name in arrays if name.startswith(tuple(fastreid.GALLERIES))}


def parts(name: str) -> list:
    """Query and gallery features, then what `rank` wants of them."""
    data = fastreid.gallery(name)
    return [part for key in ("features", "people", "cameras")
            for part in np.split(data[key], [fastreid.GALLERIES[name][0]])]


def same_ranks(distance, whose, golden, case: str):
    np.testing.assert_allclose(distance, golden[f"{case}_distance"], rtol=1e-5, atol=1e-5)
    ranking = rank(distance, *whose)
    np.testing.assert_allclose(ranking.average_precision, golden[f"{case}_precision"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(ranking.inverse_negative_penalty, golden[f"{case}_penalty"], rtol=0, atol=1e-6)
    curve = golden[f"{case}_curve"]
    np.testing.assert_allclose(ranking.cmc[:len(curve)], curve, rtol=0, atol=1e-6)
    return ranking


@pytest.mark.parametrize("case", ["common_cosine", "common_euclidean", "small_cosine"])
def test_ranks_are_fastreids(golden, case):
    name, metric = case.split("_")
    queries, gallery, *whose = parts(name)
    same_ranks(DISTANCES[metric](queries, gallery), whose, golden, case)


def test_the_curve_of_a_short_gallery_stays_at_its_last_value():
    """FastReID's Python version stops there, and its Cython version returns a curve that falls."""
    queries, gallery, *whose = parts("small")
    curve = rank(cosine_distance(queries, gallery), *whose).cmc
    assert len(curve) == 50 and (np.diff(curve) >= 0).all() and curve[-1] == 1


@pytest.mark.parametrize("metric", DISTANCES)
def test_re_ranking_is_its_authors(golden, metric):
    distance = re_rank(*parts("common")[:2], metric)
    np.testing.assert_allclose(distance, golden[f"common_{metric}_re_ranking"], rtol=0, atol=1e-5)


def test_the_evaluators_re_ranking_is_another(golden):
    queries, gallery, *whose = parts("common")
    same_ranks(re_rank_as_evaluator(queries, gallery), whose, golden, "common_re_ranked")


def test_query_expansion_is_fastreids(golden):
    queries, gallery, *whose = parts("common")
    same_ranks(cosine_distance(*expand_queries(queries, gallery)), whose, golden, "common_expanded")


def brute_force(distance, query_ids, gallery_ids, query_cameras, gallery_cameras):
    """mAP and rank-1 by walking down each list, as the rule is told in words."""
    precisions, firsts = [], []
    for row, person, camera in zip(distance, query_ids, query_cameras):
        seen = right = 0
        precision = []
        for place in sorted(range(len(row)), key=lambda place: row[place]):
            if gallery_ids[place] == person and gallery_cameras[place] == camera:
                continue
            seen += 1
            if gallery_ids[place] == person:
                right += 1
                precision.append(right / seen)
        if precision:
            precisions.append(sum(precision) / right)
            firsts.append(precision[0] == 1)
    return np.mean(precisions), np.mean(firsts)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_a_walk_down_the_list(seed):
    random = np.random.default_rng(seed)
    distance = random.random((20, 60))
    whose = [random.integers(0, 8, 20), random.integers(0, 8, 60), random.integers(0, 3, 20), random.integers(0, 3, 60)]
    ranking = rank(distance, *whose)
    mean_ap, first = brute_force(distance, *whose)
    assert ranking.mean_ap == pytest.approx(mean_ap) and ranking.cmc[0] == pytest.approx(first)


def test_euclidean_is_squared():
    queries, gallery = np.array([[3.0, 4.0]]), np.array([[0.0, 0.0], [3.0, 5.0]])
    np.testing.assert_allclose(euclidean_distance(queries, gallery), [[25, 1]])


def test_nobody_to_find_is_an_error():
    with pytest.raises(UserError, match="none of 1 queries"):
        rank(np.zeros((1, 2)), np.array([1]), np.array([1, 2]), np.array([0]), np.array([0, 0]))
