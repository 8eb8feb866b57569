"""Object keypoint similarity, and what AlphaPose does with it: rescore people, drop duplicates.

Axes: N people, K joints. Keypoints are (N, K, 2) photo pixels, scores (N, K).
"""
from __future__ import annotations

from typing import Dict, List, Union

import numpy as np

from pose.skeleton import COCO17, Skeleton

SCORED_JOINT = 0.2  # joints that score no more than this do not count in a person's score
SAME_PERSON = 0.9  # two people of one photo with a higher OKS than this are one
SOFT_DECAY = 0.9  # exp(-oks^2 / this) multiplies the scores of the soft variant
SOFT_MOST = 20  # people that the soft variant keeps of a photo: as many as COCO scores
EPSILON = np.spacing(1.0)  # keeps the division defined for boxes of no area


def oks(keypoints: np.ndarray, area: Union[float, np.ndarray], others: np.ndarray, other_areas: np.ndarray,
        skeleton: Skeleton = COCO17) -> np.ndarray:
    """OKS of one person (K, 2) with M others (M, K, 2): (M,) float64.

    All joints count, independent of their score, and the size is the mean of both areas (AlphaPose's `oks_iou`).
    """
    squared = ((others.astype(np.float64) - keypoints) ** 2).sum(axis=2)  # (M, K)
    size = (area + other_areas)[:, None] / 2 + EPSILON
    return np.exp(-(squared / skeleton.variances / size / 2)).sum(axis=1) / len(skeleton)


def rescore(scores: np.ndarray, box_scores: np.ndarray) -> np.ndarray:
    """(N, K) joint scores, (N,) box scores -> (N,): the mean of joint scores above SCORED_JOINT times the box score."""
    scores = scores.astype(np.float64)  # float32 would compare with SCORED_JOINT rounded to float32
    counted = scores > SCORED_JOINT
    # cumsum adds in joint order, as AlphaPose's loop does; sum() adds pairwise and differs in the last bit.
    totals = np.where(counted, scores, 0).cumsum(axis=1)[:, -1]
    return totals / np.maximum(counted.sum(axis=1), 1) * box_scores


def by_descending_score(scores: np.ndarray) -> np.ndarray:
    """(N,) scores -> (N,) int64 indices by descending score. Of equal scores the later comes first. AlphaPose's
    reversed argsort gives the same order for up to 16 people; beyond that its order is undefined."""
    return np.argsort(scores, kind="stable")[::-1]


def oks_nms(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, skeleton: Skeleton = COCO17,
            threshold: float = SAME_PERSON) -> List[int]:
    """Indices of the people of ONE photo that are kept, by descending score: greedy, drops OKS > threshold.

    Keypoints (N, K, 2) in pixels, scores (N,), areas (N,) in square pixels.
    """
    order, keep = by_descending_score(scores), []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(int(best))
        order = rest[oks(keypoints[best], areas[best], keypoints[rest], areas[rest], skeleton) <= threshold]
    return keep


def soft_oks_nms(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray,
                 skeleton: Skeleton = COCO17) -> List[int]:
    """As `oks_nms`, with the same (N, K, 2) and (N,) arrays, but similar people lose score instead of being dropped,
    and SOFT_MOST are kept.

    The decayed scores only decide the order; people keep their original scores.
    """
    order = by_descending_score(scores)
    scores = scores[order]
    keep: List[int] = []
    while len(order) and len(keep) < SOFT_MOST:
        best, order = order[0], order[1:]
        keep.append(int(best))
        overlap = oks(keypoints[best], areas[best], keypoints[order], areas[order], skeleton)
        decayed = scores[1:] * np.exp(-overlap ** 2 / SOFT_DECAY)
        again = by_descending_score(decayed)
        order, scores = order[again], decayed[again]
    return keep


NMS = {"greedy": oks_nms, "soft": soft_oks_nms}


def nms_per_photograph(image_ids: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray,
                       nms: str = "greedy", skeleton: Skeleton = COCO17) -> List[int]:
    """Indices of the people that are kept: photos in order of first appearance, people by descending score.

    image_ids (N,), keypoints (N, K, 2) in pixels, scores (N,), areas (N,) in square pixels.
    """
    groups: Dict[int, List[int]] = {}
    for index, image_id in enumerate(image_ids):
        groups.setdefault(int(image_id), []).append(index)
    keep = []
    for group in map(np.array, groups.values()):
        keep.extend(group[NMS[nms](keypoints[group], scores[group], areas[group], skeleton)].tolist())
    return keep
