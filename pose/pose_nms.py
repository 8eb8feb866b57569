"""AlphaPose's parametric pose NMS: poses of one person are joined into one.

For demos, where a joined pose looks steadier than any of its parts. Scoring uses OKS-NMS (pose.oks), which changes no
keypoint. Formula: Fang et al., RMPE, ICCV 2017, section 3.4, with the constants and the merging of AlphaPose's code.
"""
from __future__ import annotations

from typing import List, NamedTuple

import numpy as np

from pose.poses import People

NEAR_SCALE, SCORE_WEIGHT_SCALE = np.float32(2.65), np.float32(1)  # delta2 and delta1 of the paper
DISTANCE_WEIGHT = np.float32(1.7)  # mu
SAME_POSE = 22.48  # gamma: poses more alike than this are one person's
SAME_JOINTS = 5  # and so are poses with this many joints in the same place
LEAST_SCORE = 0.3  # of a pose's best joint
TINY_SCORE = np.float32(1e-5)  # stands for a score of 0, which would be a weight of 0 / 0
REFERENCE = np.float32(0.1)  # of the longer side of the box: what "the same place" is relative to
MATCH_AT_MOST, MERGE_AT_MOST = np.float32(7), np.float32(15)  # pixels
AREA_MARGIN = 2.25  # a person's area is that of the joints' extent, 1.5 times as wide and as high


class Group(NamedTuple):
    """One person: the row picked, all rows joined, the joined pose (K, 2) and its scores (K,), float32."""

    pick: int
    rows: List[int]
    keypoints: np.ndarray
    scores: np.ndarray


def pose_nms(people: People, least_area: float = 0) -> People:
    """The people of one image with each person's poses joined, best first; boxes are those of the picked rows.

    `least_area` in square pixels leaves out the small (AlphaPose's --min_box_area).
    """
    groups = pose_groups(people.boxes_xyxy, people.keypoints, people.scores, least_area)
    picked = people.take([group.pick for group in groups])
    return People(picked.boxes_xywh, picked.box_scores,
                  np.array([group.keypoints for group in groups], np.float32).reshape(picked.keypoints.shape),
                  np.array([group.scores for group in groups], np.float32).reshape(picked.scores.shape),
                  merged=np.array([len(group.rows) for group in groups], np.int64), ids=picked.ids)


def pose_groups(boxes_xyxy: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, least_area: float) -> List[Group]:
    """(N, 4), (N, K, 2), (N, K) -> the people, best first. float32 throughout, as the original."""
    scores = np.where(scores == 0, TINY_SCORE, scores).astype(np.float32)
    keypoints = keypoints.astype(np.float32)
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    reference = REFERENCE * sides.max(axis=1, initial=0).astype(np.float32)
    left, groups = np.arange(len(scores)), []
    person_scores = scores.mean(axis=1)
    while len(left):
        pick = left[person_scores[left].argmax()]
        distances = np.linalg.norm(keypoints[left] - keypoints[pick], axis=2)  # (left, K)
        same = is_same(distances, scores[pick], scores[left], reference[pick])
        same |= left == pick
        joined = join(distances[same], keypoints[left[same]], scores[left[same]], reference[pick])
        if scores[pick].max() >= LEAST_SCORE and joined[1].max() >= LEAST_SCORE \
                and AREA_MARGIN * np.ptp(joined[0], axis=0).prod() >= least_area:
            groups.append(Group(int(pick), left[same].tolist(), *joined))
        left = left[~same]
    return groups


def is_same(distances: np.ndarray, scores: np.ndarray, others: np.ndarray, reference: np.float32) -> np.ndarray:
    """Which of M poses are the person's: (M, K) distances to it, its scores (K,), theirs (M, K) -> (M,) bool."""
    agree = np.tanh(scores / SCORE_WEIGHT_SCALE) * np.tanh(others / SCORE_WEIGHT_SCALE)
    similarity = np.where(distances <= 1, agree, 0).sum(axis=1) \
        + DISTANCE_WEIGHT * np.exp(-distances / NEAR_SCALE).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a box of no size matches nothing but the very same place
        matching = (distances / min(reference, MATCH_AT_MOST) <= 1).sum(axis=1)
    return (similarity > SAME_POSE) | (matching >= SAME_JOINTS)


def join(distances: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, reference: np.float32):
    """The mean pose of a group, weighted by the scores of the joints that are near the pick's: (K, 2), (K,)."""
    near = np.where(distances <= min(reference, MERGE_AT_MOST), scores, 0)
    weights = near / near.sum(axis=0)
    return (keypoints * weights[:, :, None]).sum(axis=0), (scores * weights).sum(axis=0)
