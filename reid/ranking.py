"""Distances between features, ranks and re-ranking, as FastReID evaluates Market-1501.

Axes: Q queries, G gallery images, D features.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Tuple

import numpy as np

from contract.errors import UserError


@dataclass(frozen=True)
class Ranking:
    """The accuracy of a distance matrix. Means are over the valid queries: those whose person another camera saw."""

    cmc: np.ndarray  # (max_rank,) share of queries with a right image among the first 1, 2, ...
    first: np.ndarray  # (valid,) whether the nearest image is right
    average_precision: np.ndarray  # (valid,)
    inverse_negative_penalty: np.ndarray  # (valid,)
    valid: int
    queries: int

    @property
    def mean_ap(self) -> float:
        return float(self.average_precision.mean())

    @property
    def mean_inp(self) -> float:
        return float(self.inverse_negative_penalty.mean())


def normalise(features: np.ndarray) -> np.ndarray:
    """(N, D) -> rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, 1e-12)


def cosine_distance(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(Q, D), (G, D) -> (Q, G), 1 minus the cosine: from 0 to 2."""
    return 1 - normalise(queries) @ normalise(gallery).T


def euclidean_distance(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(Q, D), (G, D) -> (Q, G), squared, as FastReID's "euclidean" is."""
    squares = np.square(queries).sum(axis=1)[:, None] + np.square(gallery).sum(axis=1)
    return squares - 2 * queries @ gallery.T


DISTANCES = {"cosine": cosine_distance, "euclidean": euclidean_distance}


def rank(distance: np.ndarray, query_ids: np.ndarray, gallery_ids: np.ndarray, query_cameras: np.ndarray,
         gallery_cameras: np.ndarray, max_rank: int = 50) -> Ranking:
    """(Q, G) distances and whose picture each is, taken by which camera -> ranks by Market-1501's rule.

    Gallery images of the query's person and camera do not count. A query with no other image of its person is left
    out. The curve of a gallery that is shorter than `max_rank` stays at its last value. Raises UserError without any
    valid query.
    """
    curves: List[np.ndarray] = []
    precision: List[float] = []
    penalty: List[float] = []
    for row, person, camera in zip(distance, query_ids, query_cameras):
        order = np.argsort(row, kind="stable")
        counts = (gallery_ids[order] != person) | (gallery_cameras[order] != camera)
        hits = np.flatnonzero(gallery_ids[order][counts] == person)
        if not len(hits):
            continue
        found = np.arange(1, len(hits) + 1)
        curves.append(np.arange(max_rank) >= hits[0])
        precision.append(float((found / (hits + 1)).mean()))
        penalty.append(len(hits) / (hits[-1] + 1))
    if not curves:
        raise UserError(f"none of {len(distance)} queries has an image of its person by another camera in the gallery")
    return Ranking(np.mean(curves, axis=0), np.array(curves)[:, 0], np.array(precision), np.array(penalty),
                   len(curves), len(distance))


def expand_queries(queries: np.ndarray, gallery: np.ndarray, nearest: int = 5,
                   power: float = 3.0) -> Tuple[np.ndarray, np.ndarray]:
    """(Q, D), (G, D) -> the same shapes: every feature becomes the mean of its `nearest` among all of them, itself
    included, each weighted by its cosine to `power` (alpha query expansion, Radenovic et al., 2018)."""
    features = np.concatenate([queries, gallery])
    cosines = normalise(features) @ normalise(features).T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :nearest]
    weights = np.take_along_axis(cosines, order, axis=1) ** power
    expanded = (weights[:, :, None] * features[order]).mean(axis=1)
    return expanded[:len(queries)], expanded[len(queries):]


def re_rank(queries: np.ndarray, gallery: np.ndarray, metric: str = "cosine", k1: int = 20, k2: int = 6,
            share: float = 0.3) -> np.ndarray:
    """(Q, D), (G, D) -> (Q, G): k-reciprocal re-ranking (Zhong et al., CVPR 2017), as its authors compute it.

    The Jaccard distance of the neighbourhoods, mixed with `share` of the original distance, each row of which is
    divided by its largest value. Holds a matrix of (Q + G)^2 float32, 1.5 GB for Market-1501.
    """
    features = np.concatenate([queries, gallery]).astype(np.float32)
    distance = np.square(DISTANCES[metric](features, features))
    distance = (distance / distance.max(axis=0)).T
    order = np.argsort(distance, axis=1, kind="stable")[:, :k1 + 1]
    memberships = _memberships(order, k1, lambda row, near: _shares(np.exp(-distance[row, near])))
    return (1 - share) * _jaccard(memberships, order, k2, len(queries)) + share * distance[:len(queries), len(queries):]


def re_rank_as_evaluator(queries: np.ndarray, gallery: np.ndarray, k1: int = 20, k2: int = 6,
                         share: float = 0.3) -> np.ndarray:
    """As `re_rank`, in the form of FastReID's evaluator: k1 neighbours with the image itself, a softmax of the squared
    distance of normalised features as weights, and `share` of the cosine distance, undivided."""
    features = normalise(np.concatenate([queries, gallery]).astype(np.float32))
    squared = euclidean_distance(features, features)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k1]
    memberships = _memberships(order, k1, lambda row, near: _shares(np.exp(-squared[row, near])))
    jaccard = np.maximum(_jaccard(memberships, order, k2, len(queries)), 0)
    return (1 - share) * jaccard + share * cosine_distance(queries, gallery)


def _shares(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def _memberships(order: np.ndarray, k1: int, weigh: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """(N, N) float32: how much each image belongs to the expanded neighbourhood of another."""
    neighbours = [_reciprocal(order, row, k1) for row in range(len(order))]
    half = [_reciprocal(order, row, int(np.around(k1 / 2))) for row in range(len(order))]
    memberships = np.zeros((len(order), len(order)), np.float32)
    for row, near in enumerate(neighbours):
        added = [half[candidate] for candidate in near
                 if np.isin(half[candidate], near).sum() > 2 / 3 * len(half[candidate])]
        expanded = np.unique(np.concatenate([near, *added]))
        memberships[row, expanded] = weigh(row, expanded)
    return memberships


def _reciprocal(order: np.ndarray, row: int, count: int) -> np.ndarray:
    """Those of the `count` nearest (and the image itself) that have the image among theirs."""
    near = order[row, :count + 1]
    return near[(order[near, :count + 1] == row).any(axis=1)]


def _jaccard(memberships: np.ndarray, order: np.ndarray, k2: int, queries: int) -> np.ndarray:
    """(N, N) memberships, averaged over the `k2` nearest -> (Q, G) 1 minus intersection over union."""
    smooth = np.stack([memberships[near].mean(axis=0) for near in order[:, :k2]])
    distance = np.empty((queries, len(smooth) - queries), np.float32)
    for row in range(queries):
        members = np.flatnonzero(smooth[row])
        shared = np.minimum(smooth[row, members], smooth[queries:, members]).sum(axis=1)
        distance[row] = 1 - shared / (2 - shared)
    return distance
