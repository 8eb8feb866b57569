"""Distances, ranks and re-ranking: FastReID's numbers, and an independent count on generated data."""
from __future__ import annotations

import json

import numpy as np
import pytest

from contract.errors import UserError
from reid.ranking import cosine_distance, euclidean_distance, expand_queries, rank, re_rank, re_rank_as_evaluator

SETS = ("common", "small_gallery")


@pytest.fixture(scope="module")
def golden(shared):
    arrays = np.load(shared / "golden" / "wave2" / "reid_rank.npz")
    numbers = json.loads((shared / "golden" / "wave2" / "reid_rank.json").read_text())
    return {entry["name"]: (entry, {key.split("/")[1]: arrays[key] for key in arrays if key.startswith(entry["name"])})
            for entry in numbers}


def ranked(distance, arrays):
    return rank(distance, *(arrays[f"{side}_{what}"] for what in ("pids", "camids") for side in ("query", "gallery")))


@pytest.mark.parametrize("name", SETS)
def test_ranks_are_fastreids(golden, name):
    numbers, arrays = golden[name]
    distance = cosine_distance(arrays["query_features"], arrays["gallery_features"])
    np.testing.assert_allclose(distance, arrays["distance"], atol=1e-5)
    ranking = ranked(distance, arrays)
    assert ranking.mean_ap == pytest.approx(numbers["mAP"], abs=1e-6)
    assert ranking.mean_inp == pytest.approx(numbers["mINP"], abs=1e-6)
    np.testing.assert_allclose(ranking.average_precision, numbers["AP"], atol=1e-6)
    np.testing.assert_allclose(ranking.inverse_negative_penalty, numbers["INP"], atol=1e-6)
    for curve in [numbers["cmc"]] if "cmc" in numbers else [numbers["cmc_max_rank_5"], numbers["cmc_max_rank_10"]]:
        np.testing.assert_allclose(ranking.cmc[:len(curve)], curve, atol=1e-6)


def test_the_curve_of_a_short_gallery_stays_at_its_last_value(golden):
    """FastReID's Python version stops there, and its Cython version returns a curve that falls."""
    _, arrays = golden["small_gallery"]
    ranking = ranked(cosine_distance(arrays["query_features"], arrays["gallery_features"]), arrays)
    assert len(ranking.cmc) == 50 and (np.diff(ranking.cmc) >= 0).all() and ranking.cmc[-1] == 1


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_re_ranking_is_its_authors(golden, metric):
    numbers, arrays = golden["common"]
    distance = re_rank(arrays["query_features"], arrays["gallery_features"], metric)
    np.testing.assert_allclose(distance, arrays[f"re_ranking_{metric}"], atol=1e-5)
    assert ranked(distance, arrays).mean_ap == pytest.approx(numbers[f"re_ranking_{metric}"]["mAP"], abs=1e-6)


def test_the_evaluators_re_ranking_is_another(golden):
    numbers, arrays = golden["common"]
    distance = re_rank_as_evaluator(arrays["query_features"], arrays["gallery_features"])
    np.testing.assert_allclose(distance, arrays["evaluator_rerank"], atol=1e-5)
    assert ranked(distance, arrays).mean_ap == pytest.approx(numbers["evaluator_rerank"]["mAP"], abs=1e-6)


def test_query_expansion_is_fastreids(golden):
    numbers, arrays = golden["common"]
    queries, gallery = expand_queries(arrays["query_features"], arrays["gallery_features"])
    np.testing.assert_allclose(queries, arrays["aqe_query"], atol=1e-5)
    assert ranked(cosine_distance(queries, gallery), arrays).mean_ap == pytest.approx(
        numbers["aqe_k5_alpha3"]["mAP"], abs=1e-6)


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
