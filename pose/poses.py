"""The people found on one image, as arrays: what the estimator gives, trackers number, and drawing and results take."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, Optional, Sequence, Union

import numpy as np

from pose.oks import oks_nms, rescore
from pose.skeleton import Skeleton


@dataclasses.dataclass(frozen=True)
class People:
    """N people of K joints, best first. Positions are pixels of the image.

    boxes_xywh (N, 4) float32: left, top, width, height, as the detector gave them. box_scores (N,) float32.
    keypoints (N, K, 2) float32; scores (N, K) float32, of joints. merged (N,): how many poses of one person a pose NMS
    joined in it. ids (N,): who it is in a video, from 1; None where nobody tracked.
    """

    boxes_xywh: np.ndarray
    box_scores: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    merged: Optional[np.ndarray] = None
    ids: Optional[np.ndarray] = None

    def __len__(self) -> int:
        return len(self.boxes_xywh)

    @property
    def boxes_xyxy(self) -> np.ndarray:
        """(N, 4): left, top, right, bottom."""
        low = self.boxes_xywh[:, :2]
        return np.concatenate([low, low + self.boxes_xywh[:, 2:]], axis=1)

    @property
    def joint_rows(self) -> np.ndarray:
        """(N, 3 K): x, y, score of each joint."""
        joints = np.concatenate([self.keypoints, self.scores[:, :, None]], axis=2)
        return joints.reshape(len(self), 3 * self.scores.shape[1])

    @property
    def person_scores(self) -> np.ndarray:
        """(N,): AlphaPose's `proposal_score`, the box score plus the mean and 1.25 times the best of the joints'."""
        if not len(self):
            return np.zeros(0, np.float32)
        return self.scores.mean(axis=1) + self.box_scores + np.float32(1.25) * self.scores.max(axis=1)

    def take(self, rows: Union[Sequence[int], np.ndarray]) -> People:
        """The people of (n,) `rows`, in that order."""
        taken: Dict[str, Any] = {name: None if values is None else values[np.asarray(rows, np.int64)]
                                 for name, values in vars(self).items()}
        return People(**taken)


def oks_kept(people: People, crop_areas: np.ndarray, skeleton: Skeleton) -> People:
    """Those that OKS-NMS keeps, best first, as postprocess.py does. `crop_areas` (N,) float64."""
    scores = rescore(people.scores, people.box_scores.astype(np.float64))
    return people.take(oks_nms(people.keypoints, scores, crop_areas, skeleton))


def nobody(joints: int) -> People:
    """The people of an empty image."""
    return People(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, joints, 2), np.float32),
                  np.zeros((0, joints), np.float32))

