"""Sets of joints: their names, which are left and right of each other, what to draw, and how exact annotators are."""
from __future__ import annotations

import dataclasses
import functools
from typing import Dict, Tuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """K joints in the order of heatmaps and keypoints.

    `pairs` are left and right joints that a mirror exchanges, `bones` are joints to draw a line between. `sigmas` say
    how far annotators disagree about each joint, relative to the person's size.
    """

    name: str
    joints: Tuple[str, ...]
    pairs: Tuple[Tuple[int, int], ...]
    bones: Tuple[Tuple[int, int], ...]
    sigmas: Tuple[float, ...]

    def __len__(self) -> int:
        return len(self.joints)

    @functools.cached_property
    def mirrored(self) -> np.ndarray:
        """(K,) for each joint the one that a mirror puts in its place: `values[:, skeleton.mirrored]` exchanges left
        and right."""
        order = np.arange(len(self))
        for left, right in self.pairs:
            order[[left, right]] = right, left
        return order

    @functools.cached_property
    def variances(self) -> np.ndarray:
        """(K,) float64: what COCO divides squared distances by, beside the size of the person."""
        return (2 * np.array(self.sigmas)) ** 2


COCO17 = Skeleton(
    name="coco17",
    joints=("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
            "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
            "left_ankle", "right_ankle"),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    bones=((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
           (11, 13), (13, 15), (12, 14), (14, 16)),
    # pycocotools' kpt_oks_sigmas, divided there
    sigmas=tuple((np.array([.26, .25, .25, .35, .35, .79, .79, .72, .72, .62, .62, 1.07, 1.07, .87, .87, .89, .89])
                  / 10).tolist()),
)

SKELETONS: Dict[str, Skeleton] = {COCO17.name: COCO17}
