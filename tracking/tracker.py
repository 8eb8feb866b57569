"""Ids by motion, overlap and pose, and by re-identification features if a function gives them."""
from __future__ import annotations

from typing import Callable, List, Optional, Sequence

import numpy as np

from pose.oks import oks
from pose.poses import People
from tracking.assignment import best_pairs
from tracking.kalman import Motion

SURE = 0.4  # box score from which somebody unknown is taken for a person
KEPT = 240  # frames that somebody unseen is remembered
RECENT = 8  # frames unseen after which the pose is no longer compared
SIMILAR, OVERLAP = 0.15, 0.3  # least similarity, and least IoU of an unsure box, of the same person
NEAR = 0.1  # least similarity of place and pose, however alike the looks
GATE = 9.4877  # squared Mahalanobis distance that 95 % of right boxes keep (chi squared, 4 degrees of freedom)
LOOKS_WEIGHT = 2  # of the cosine of looks beside place and pose, of who was away for LOOKS_AWAY frames or more
LOOKS_AWAY = 60  # the shorter somebody was away, the less looks say beside it: a crop of two who cross shows both
DIFFERENT_LOOKS, SAME_LOOKS = 0.5, 0.4  # cosines: about where different people lie, and least of who comes back
LOOKS_MEMORY = 0.95  # share of the former looks in the mean that is kept

Looks = Callable[[np.ndarray, People], np.ndarray]  # (H, W, 3) RGB image, N people -> (N, D) features


class Track:
    """Somebody: id, motion, latest joints (K, 2) and the box they were in, mean looks (D,), frames unseen."""

    def __init__(self, name: int, box_xywh: np.ndarray, joints: np.ndarray, looks: Optional[np.ndarray]):
        self.name, self.motion, self.looks, self.unseen = name, Motion(box_xywh), looks, 0
        self.joints, self.joints_place = joints, self.motion.place

    def see(self, box_xywh: np.ndarray, joints: np.ndarray, looks: Optional[np.ndarray]) -> None:
        self.motion.update(box_xywh)
        self.joints, self.joints_place, self.unseen = joints, self.motion.place, 0
        if self.looks is not None and looks is not None:
            mean = LOOKS_MEMORY * self.looks + (1 - LOOKS_MEMORY) * looks
            self.looks = mean / np.linalg.norm(mean)

    def expected_joints(self) -> np.ndarray:
        """The latest joints, moved and scaled as the box."""
        scale = self.motion.place[3] / self.joints_place[3]
        return (self.joints - self.joints_place[:2]) * scale + self.motion.place[:2]


class Tracker:
    """Numbers the people of a video, frame after frame. `looks` describes people by their pictures, as a network for
    re-identification does; without it, people are told apart by where they are, how they move and their poses."""

    def __init__(self, looks: Optional[Looks] = None):
        self.describe, self.tracks, self.newest = looks, [], 0  # type: Optional[Looks], List[Track], int

    def update(self, image: np.ndarray, people: People) -> np.ndarray:
        """(H, W, 3) uint8 RGB, its N people -> (N,) int64 ids from 1; 0 is somebody unknown with an unsure box."""
        for track in self.tracks:
            track.motion.predict()
            track.unseen += 1
        looks = self.describe(image, people) if self.describe and len(people) else None
        ids = np.zeros(len(people), np.int64)
        sure = people.box_scores >= SURE
        left = self._match(self.tracks, sure, ids, people, looks, self._similarities, SIMILAR)
        recent = [track for track in left if track.unseen == 1]
        self._match(recent, ~sure, ids, people, looks, self._overlaps, OVERLAP)
        lost = [track for track in left if track.unseen > 0]
        self._match(lost, sure, ids, people, looks, self._returns, 0)
        for row in np.flatnonzero(sure & (ids == 0)):
            self.newest += 1
            ids[row] = self.newest
            self.tracks.append(Track(self.newest, people.boxes_xywh[row], people.keypoints[row],
                                     None if looks is None else looks[row]))
        self.tracks = [track for track in self.tracks if track.unseen <= KEPT]
        return ids

    def _match(self, tracks: Sequence[Track], wanted: np.ndarray, ids: np.ndarray, people: People,
               looks: Optional[np.ndarray], grade: Callable, least: float) -> List[Track]:
        """Give the best pairs of `tracks` and `wanted` rows without an id theirs; the tracks that are left."""
        rows = np.flatnonzero(wanted & (ids == 0))
        if not tracks or not len(rows):
            return list(tracks)
        grades = np.stack([grade(track, people.take(rows), None if looks is None else looks[rows])
                           for track in tracks])
        left = set(range(len(tracks)))
        for number, column in best_pairs(np.where(grades > least, grades, -1)):
            if grades[number, column] > least:
                row = rows[column]
                ids[row] = tracks[number].name
                tracks[number].see(people.boxes_xywh[row], people.keypoints[row], None if looks is None else looks[row])
                left.discard(number)
        return [tracks[number] for number in sorted(left)]

    @staticmethod
    def _overlaps(track: Track, people: People, looks: Optional[np.ndarray]) -> np.ndarray:
        """(N,) IoU with where the box should be."""
        return ious(track.motion.box_xywh, people.boxes_xywh)

    @staticmethod
    def _similarities(track: Track, people: People, looks: Optional[np.ndarray]) -> np.ndarray:
        """(N,) mean of the IoU and of the OKS of the poses, and how alike they look; -1 where they are not near."""
        grades = ious(track.motion.box_xywh, people.boxes_xywh) / 2
        if track.unseen <= RECENT:
            areas = people.boxes_xywh[:, 2:].prod(axis=1).astype(np.float64)
            grades += oks(track.expected_joints(), track.motion.box_xywh[2:].prod(), people.keypoints, areas) / 2
        weight = LOOKS_WEIGHT * min(track.unseen / LOOKS_AWAY, 1)
        alike = 0 if looks is None else weight * (looks @ track.looks - DIFFERENT_LOOKS)
        return np.where(grades > NEAR, grades + alike, -1)

    @staticmethod
    def _returns(track: Track, people: People, looks: Optional[np.ndarray]) -> np.ndarray:
        """(N,) how well they fit who has been away: by looks where they are known, else by motion."""
        if looks is not None:
            return looks @ track.looks - SAME_LOOKS
        return 1 - track.motion.distances(people.boxes_xywh) / GATE


def ious(box_xywh: np.ndarray, boxes_xywh: np.ndarray) -> np.ndarray:
    """(4,), (N, 4) -> (N,) intersection over union."""
    low, high = box_xywh[:2], box_xywh[:2] + box_xywh[2:]
    lows, highs = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    common = np.maximum(np.minimum(high, highs) - np.maximum(low, lows), 0).prod(axis=1)
    return common / np.maximum(box_xywh[2:].prod() + boxes_xywh[:, 2:].prod(axis=1) - common, 1e-9)
