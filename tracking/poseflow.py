"""PoseFlow, AlphaPose's tracker: people are matched by their boxes, by their joints, and by points of the images.

Xiu et al., Pose Flow, BMVC 2018, as AlphaPose's `trackers/PoseFlow` computes it with its default settings. Axes: N
people of a frame, R people known from before, K joints, P pairs of points. Boxes here are left, right, top, bottom.
"""
from __future__ import annotations

from typing import Any, Dict, NamedTuple, Tuple

import cv2
import numpy as np

from pose.poses import People
from tracking.assignment import best_pairs

LOOK_BACK = 100  # frames with people after which somebody is forgotten
MATCHED = 0.2  # grade above which two poses are one person's
BOX_MARGIN = 0.1  # of the joints' extent, on each side
JOINT_REACH = 30  # pixels from a joint to the sides of its square
BEST_JOINTS = 7  # that count in the grade of a pair
EPSILON = 0.00001
ORB_POINTS, LEAST_POINTS_PRODUCT, RATIO = 10000, 400, 0.80
FLANN_LSH: Dict[str, Any] = {"algorithm": 6, "table_number": 12, "key_size": 12, "multi_probe_level": 2}
LEAST_BYTES = 1000  # of the original's file of pairs; with fewer it takes every pixel as matched with itself


class Known(NamedTuple):
    """Somebody's latest pose: which frame it is of, its box (4,) and its joints (K, 2)."""

    frame: int
    box: np.ndarray
    joints: np.ndarray


class PoseFlow:
    """Numbers the people of a video, frame after frame. A frame without people is passed over.

    The matcher of points draws random numbers, which OpenCV keeps for each thread: a thread of its own for each video
    gives the same ids again.
    """

    def __init__(self) -> None:
        self.known: Dict[int, Known] = {}
        self.image: Any = None  # of the latest frame with people
        self.frame = 0  # how many frames had people
        self.newest = 0  # the highest id given

    def update(self, image: np.ndarray, people: People) -> np.ndarray:
        """(H, W, 3) uint8 RGB, its N people -> (N,) int64 ids."""
        if not len(people):
            return np.zeros(0, np.int64)
        boxes = joint_boxes(people.keypoints, image.shape[:2])
        ids = np.zeros(len(people), np.int64)
        if self.known:
            names = self._candidates()
            grades = self._grades(names, image, boxes, people.keypoints)
            for row, column in best_pairs(grades):
                if grades[row, column] > MATCHED:
                    ids[column] = names[row]
        unknown = ids == 0
        ids[unknown] = self.newest + 1 + np.arange(unknown.sum())
        self.newest = max(self.newest, int(ids.max()))
        self.known.update({int(name): Known(self.frame, box, joints)
                           for name, box, joints in zip(ids, boxes, people.keypoints)})
        self.image, self.frame = image, self.frame + 1
        return ids

    def _candidates(self) -> list:
        """Ids of those seen within LOOK_BACK frames, the latest first; the others are forgotten."""
        self.known = {name: known for name, known in self.known.items() if self.frame - known.frame <= LOOK_BACK}
        return sorted(self.known, key=lambda name: -self.known[name].frame)

    def _grades(self, names: list, image: np.ndarray, boxes: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """(R, N): how well each of the known fits each person, from 0 to 2, or to 6 for those of the latest frame,
        whose boxes count twice and whose points count too."""
        before = [self.known[name] for name in names]
        old_boxes, old_joints = np.stack([known.box for known in before]), np.stack([known.joints for known in before])
        squares, old_squares = joint_squares(joints), joint_squares(old_joints)
        by_joint = box_overlaps(old_squares[:, None], squares[None])  # (R, N, K)
        grades = box_overlaps(old_boxes[:, None], boxes[None]) + mean_of_best(by_joint)
        latest = [row for row, known in enumerate(before) if known.frame == self.frame - 1]
        grades[latest] *= 2
        old_points, points = matched_points(self.image, image)
        grades[latest] += point_overlaps(old_boxes[latest], boxes, old_points, points)
        joint_points = [point_overlaps(old_squares[latest, joint], squares[:, joint], old_points, points)
                        for joint in range(joints.shape[1])]
        grades[latest] += mean_of_best(np.stack(joint_points, axis=2))
        return grades


def joint_boxes(joints: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """(N, K, 2) joints, (height, width) -> (N, 4) whole numbers: their extent and a margin, within the image."""
    low, high = joints.min(axis=1).astype(np.float64), joints.max(axis=1).astype(np.float64)
    margin, limit = BOX_MARGIN * (high - low), np.array(size[::-1])
    low, high = np.clip(low - margin, 0, limit), np.clip(high + margin, 0, limit)
    return np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1).astype(np.int64)


def joint_squares(joints: np.ndarray) -> np.ndarray:
    """(N, K, 2) -> (N, K, 4)."""
    x, y = joints[..., 0].astype(np.float64), joints[..., 1].astype(np.float64)
    return np.stack([x - JOINT_REACH, x + JOINT_REACH, y - JOINT_REACH, y + JOINT_REACH], axis=-1)


def box_overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of (..., 4) boxes; sides are one pixel longer than the difference, and boxes that only touch have none."""
    width = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 2], b[..., 2])
    common = np.where((width > 0) & (height > 0), (width + 1) * (height + 1), 0)
    areas = [(box[..., 1] - box[..., 0] + 1) * (box[..., 3] - box[..., 2] + 1) for box in (a, b)]
    return common / (areas[0] + areas[1] - common + EPSILON)


def point_overlaps(old_boxes: np.ndarray, boxes: np.ndarray, old_points: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(R, 4), (N, 4), (P, 2), (P, 2) -> (R, N): pairs of points in both boxes over those in either."""
    inside_old, inside = points_inside(old_boxes, old_points), points_inside(boxes, points)  # (R, P), (N, P)
    common = inside_old @ inside.T
    either = inside_old.sum(axis=1)[:, None] + inside.sum(axis=1)[None] - common
    return common / (either + EPSILON)


def points_inside(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 4), (P, 2) -> (N, P) of 0 and 1. float32 multiplies fast and counts exactly up to 2^24."""
    x, y = points.T
    left, right, top, bottom = boxes.T[:, :, None]
    return ((x >= left) & (x <= right) & (y >= top) & (y <= bottom)).astype(np.float32)


def mean_of_best(values: np.ndarray) -> np.ndarray:
    """(..., K) -> (...): of the BEST_JOINTS highest."""
    return np.sort(values, axis=-1)[..., -BEST_JOINTS:].mean(axis=-1)


def matched_points(before: np.ndarray, image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Two RGB images -> (P, 2), (P, 2) whole numbers: points of the first, and where they are in the second.

    With too few points every pixel is taken as not having moved.
    """
    orb = cv2.ORB.create(nfeatures=ORB_POINTS, scoreType=cv2.ORB_FAST_SCORE)
    (points_a, features_a), (points_b, features_b) = (orb.detectAndCompute(each, None) for each in (before, image))
    if len(points_a) * len(points_b) < LEAST_POINTS_PRODUCT:
        return unmoved(before)
    matches = cv2.FlannBasedMatcher(FLANN_LSH, {"checks": 100}).knnMatch(features_a, features_b, k=2)
    good = [pair[0] for pair in matches if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
    pairs = [(*map(int, points_a[match.queryIdx].pt), *map(int, points_b[match.trainIdx].pt)) for match in good]
    written = sum(len(" ".join([*map(str, pair), f"{match.distance:f} \n"])) for pair, match in zip(pairs, good))
    if written < LEAST_BYTES:
        return unmoved(before)
    return np.array(pairs)[:, :2], np.array(pairs)[:, 2:]


def unmoved(image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    points = np.stack(np.meshgrid(np.arange(width), np.arange(height), indexing="ij"), axis=-1).reshape(-1, 2)
    return points, points
