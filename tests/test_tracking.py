"""The tracker: its filter against the textbook's matrices, and ids through crossings, gaps and returns."""
from __future__ import annotations

from typing import List, Optional

import numpy as np
import pytest

pytest.importorskip("scipy")

from test_drawing import standing  # noqa: E402

from pose.poses import People, nobody  # noqa: E402
from tracking.kalman import Motion, centered  # noqa: E402
from tracking.tracker import Tracker  # noqa: E402

IMAGE = np.zeros((400, 800, 3), np.uint8)


def test_filter_is_the_textbooks():
    """The same steps with the 8 x 8 matrices of DeepSORT."""
    rng = np.random.default_rng(4)
    boxes = np.array([100, 50, 60, 150]) + np.array([3, 0.5, 0, 0]) * np.arange(12)[:, None] + rng.normal(0, 2, (12, 4))
    motion, place = Motion(boxes[0]), centered(boxes[0])
    height = place[3]
    mean = np.concatenate([place, np.zeros(4)])
    start = [height / 10, height / 10, 2e-2, height / 10, height / 16, height / 16, 1e-4, height / 16]
    covariance = np.diag(np.square(start))
    step, look = np.eye(8) + np.eye(8, k=4), np.eye(4, 8)
    for box in boxes[1:]:
        motion.predict()
        mean = step @ mean
        high = mean[3]
        noise = [high / 20, high / 20, 1e-2, high / 20, high / 160, high / 160, 1e-5, high / 160]
        covariance = step @ covariance @ step.T + np.diag(np.square(noise))
        total = look @ covariance @ look.T + np.diag(np.square([high / 20, high / 20, 1e-1, high / 20]))
        wrong = centered(box) - look @ mean
        assert motion.distances(box) == pytest.approx(wrong @ np.linalg.solve(total, wrong))
        motion.update(box)
        gain = covariance @ look.T @ np.linalg.inv(total)
        mean, covariance = mean + gain @ wrong, covariance - gain @ total @ gain.T
        np.testing.assert_allclose(np.concatenate([motion.place, motion.speed]), mean)


def walk(frames: int, places: List[tuple], swapped_from: int = 10 ** 6, seen=lambda frame, who: True,
         score=lambda frame, who: 0.9, looks=None):
    """Ids by walker for each frame; None where unseen. `places` are x and speed of each; from frame `swapped_from` on,
    two walkers are where the other would be."""
    def describe(image, people):
        return np.stack([looks[int(who)] for who in describe.here])

    tracker, told = Tracker(None if looks is None else describe), []
    for frame in range(frames):
        here = [who for who in range(len(places)) if seen(frame, who)]
        describe.here = here
        whose = [1 - who if frame >= swapped_from else who for who in here]
        boxes = [[places[who][0] + places[who][1] * frame, 100, 60, 150] for who in whose]
        people = standing(boxes) if here else nobody(17)
        people = People(people.boxes_xywh, np.array([score(frame, who) for who in here], np.float32), people.keypoints,
                        people.scores)
        ids = tracker.update(IMAGE, people)
        names: List[Optional[int]] = [None] * len(places)
        for who, name in zip(here, ids.tolist()):
            names[who] = name
        told.append(names)
    return told


def test_two_who_cross_keep_their_ids():
    """The one behind is hidden while they pass."""
    told = walk(60, [(100, 6), (460, -6)], seen=lambda frame, who: who == 0 or not 24 <= frame <= 36)
    assert told[0] == told[-1] == [1, 2] and all(names in ([1, 2], [1, None]) for names in told)


def test_one_unsure_box_does_not_lose_an_id_and_begins_none():
    told = walk(30, [(100, 3), (500, 0)], score=lambda frame, who: 0.15 if who == 1 or 10 <= frame < 15 else 0.9)
    assert {names[0] for names in told} == {1} and {names[1] for names in told} == {0}


def test_who_stays_away_is_forgotten():
    told = walk(260, [(100, 0)], seen=lambda frame, who: frame in (0, 1, 259))
    assert told[1] == [1] and told[259] == [2]


def test_who_comes_back_elsewhere_is_known_by_looks():
    rng = np.random.default_rng(8)
    looks = np.abs(rng.normal(0, 1, (2, 16)))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    looks[1] -= looks[0] * (looks[0] @ looks[1])
    looks[1] /= np.linalg.norm(looks[1])

    def away(frame, who):
        return not 20 <= frame < 60

    assert walk(80, [(20, 5), (300, 4)], 60, seen=away, looks=looks)[-1] == [1, 2]
    assert walk(80, [(20, 5), (300, 4)], 60, seen=away)[-1] == [2, 1]


def test_nobody():
    assert Tracker().update(IMAGE, nobody(17)).tolist() == []


def test_far_fewer_switches_than_plain_iou_on_a_rendered_film():
    """People who cross, hide, leave and return; benchmarks/tracking.py has more films and TrackEval's numbers."""
    from benchmarks.tracking import PlainIou, shaken
    from demo.walks import Film
    from tracking.tracker import ious

    film, rng = Film(16, 180, people=4), np.random.default_rng(16)
    trackers = {"iou": PlainIou(), "motion": Tracker()}
    before: dict = {name: {} for name in trackers}
    switches = dict.fromkeys(trackers, 0)
    for number in range(film.frames):
        frame = film.frame(number)
        people = shaken(frame, rng)
        for name, tracker in trackers.items():
            ids = tracker.update(frame.image, people)
            known = people.take(np.flatnonzero(ids))
            for person, box in zip(frame.ids.tolist(), frame.boxes_xywh):
                overlaps = ious(box, known.boxes_xywh)
                if len(overlaps) and overlaps.max() > 0.6:
                    given = int(ids[ids > 0][overlaps.argmax()])
                    switches[name] += before[name].get(person, given) != given
                    before[name][person] = given
    assert switches["iou"] >= 20 and switches["motion"] <= switches["iou"] / 5
