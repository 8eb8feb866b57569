"""PoseFlow against the ids, grades and points of AlphaPose's own (tests/golden/poseflow.py)."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT
from golden.poseflow import PLAIN, video

pytest.importorskip("scipy")

from pose.poses import People, nobody  # noqa: E402
from tracking import poseflow  # noqa: E402
from tracking.poseflow import PoseFlow  # noqa: E402


@pytest.fixture(scope="module")
def frames():
    return video()


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(ROOT / "tests" / "golden" / "poseflow.npz"))


def people_of(frame) -> People:
    low, high = frame.keypoints.min(axis=1), frame.keypoints.max(axis=1)
    return People(np.concatenate([low, high - low], axis=1), np.full(len(low), 0.9, np.float32), frame.keypoints,
                  frame.scores)


@pytest.fixture()
def fresh_thread():
    """A thread whose random numbers are those that a program of OpenCV begins with: the matcher draws some."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda work, *args: pool.submit(work, *args).result()


def test_ids_and_grades(frames, golden, monkeypatch, fresh_thread):
    seen = []
    grade = PoseFlow._grades

    def grades_of(tracker, names, *rest):
        seen.append(dict(zip(names, grade(tracker, names, *rest))))
        return np.array(list(seen[-1].values()))

    monkeypatch.setattr(PoseFlow, "_grades", grades_of)
    tracker = PoseFlow()
    for number, frame in enumerate(frames):
        ids = fresh_thread(tracker.update, frame.image, people_of(frame))
        assert ids.tolist() == golden[f"ids_{number}"].tolist()
        if number:
            found = [seen[-1][name] for name in golden[f"known_{number}"]]
            assert len(found) == len(seen[-1])
            np.testing.assert_allclose(found, golden[f"grades_{number}"], rtol=0, atol=1e-5)


def test_points_of_the_images(frames, golden, fresh_thread):
    for number in range(1, PLAIN):
        before, after = fresh_thread(poseflow.matched_points, frames[number - 1].image, frames[number].image)
        assert np.array_equal(np.concatenate([before, after], axis=1), golden[f"points_{number}"])


def test_a_plain_image_has_no_points_and_nothing_has_moved():
    plain = np.full((30, 40, 3), 90, np.uint8)
    before, after = poseflow.matched_points(plain, plain)
    assert len(before) == 1200 and np.array_equal(before, after) and before.max(axis=0).tolist() == [39, 29]


def test_frames_without_people_are_passed_over(frames):
    with_gaps, without = PoseFlow(), PoseFlow()
    for frame in frames[:3]:
        assert with_gaps.update(frame.image, nobody(17)).tolist() == []
        ids = [tracker.update(frame.image, people_of(frame)).tolist() for tracker in (with_gaps, without)]
        assert ids[0] == ids[1]


def test_after_a_hundred_frames_somebody_is_forgotten(frames):
    tracker, image, everybody = PoseFlow(), np.zeros((8, 8, 3), np.uint8), people_of(frames[0])
    tracker.update(image, everybody)
    for _ in range(100):
        tracker.update(image, everybody.take([0]))
    assert tracker.update(image, everybody).tolist() == [1, 5, 6, 7]
