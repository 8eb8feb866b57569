"""PoseFlow against the ids and grades of AlphaPose's own."""
from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("scipy")

from pose.poses import People, nobody  # noqa: E402
from tracking import poseflow  # noqa: E402
from tracking.poseflow import PoseFlow  # noqa: E402


@pytest.fixture(scope="module")
def golden(shared):
    frames = json.loads((shared / "golden/wave2/poseflow_A.json").read_text())["frames"]
    return frames, np.load(shared / "golden/wave2/poseflow_A.npz")


def people_of(frame) -> People:
    keypoints, scores = (np.array(frame[key], np.float32) for key in ("keypoints", "kp_score"))
    low, high = keypoints.min(axis=1), keypoints.max(axis=1)
    return People(np.concatenate([low, high - low], axis=1), np.full(len(scores), 0.9, np.float32), keypoints, scores)


def render(sequence, frame: int) -> np.ndarray:
    """RGB: people's patches pasted in order on the background, all enlarged four times."""
    def enlarged(small):
        return small.repeat(4, 0).repeat(4, 1)[:, :, ::-1]

    image = enlarged(sequence["background"]).copy()
    height, width = image.shape[:2]
    for patch, (x, y) in zip(sequence["patches"], sequence["offset"][frame]):
        if x > -900:
            patch = enlarged(patch)
            top, left = max(y, 0), max(x, 0)
            bottom, right = min(y + patch.shape[0], height), min(x + patch.shape[1], width)
            if top < bottom and left < right:
                image[top:bottom, left:right] = patch[top - y:bottom - y, left - x:right - x]
    return image


@pytest.fixture()
def fresh_thread():
    """A thread whose random numbers are those that a program of OpenCV begins with: the matcher draws some."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda work, *args: pool.submit(work, *args).result()


def test_ids_and_grades(golden, monkeypatch, fresh_thread):
    frames, sequence = golden
    seen = []
    grade = PoseFlow._grades
    monkeypatch.setattr(PoseFlow, "_grades", lambda *args: seen.append(grade(*args)) or seen[-1])
    tracker = PoseFlow()
    for number, frame in enumerate(frames):
        ids = fresh_thread(tracker.update, render(sequence, number), people_of(frame))
        assert ids.tolist() == frame["ids"]
        if frame["grade"]:
            # The original's order of known people is its own: rows are told apart by their largest values.
            expected, found = np.array(frame["grade"]), seen.pop()
            np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-5)


def test_points_of_the_images(golden, fresh_thread):
    frames, sequence = golden
    start = 0
    for number, count in enumerate(sequence["correspondences_count"]):
        images = render(sequence, number), render(sequence, number + 1)
        before, after = fresh_thread(poseflow.matched_points, *images)
        expected = sequence["correspondences"][start:start + count]
        start += count
        assert np.array_equal(np.concatenate([before, after], axis=1), expected)


def test_a_plain_image_has_no_points_and_nothing_has_moved():
    plain = np.full((30, 40, 3), 90, np.uint8)
    before, after = poseflow.matched_points(plain, plain)
    assert len(before) == 1200 and np.array_equal(before, after) and before.max(axis=0).tolist() == [39, 29]


def test_frames_without_people_are_passed_over(golden):
    frames, sequence = golden
    tracker, image = PoseFlow(), render(sequence, 0)
    assert tracker.update(image, nobody(17)).tolist() == []
    assert tracker.update(image, people_of(frames[0])).tolist() == frames[0]["ids"]
    assert tracker.update(image, nobody(17)).tolist() == []
    assert tracker.update(render(sequence, 1), people_of(frames[1])).tolist() == frames[1]["ids"]


def test_after_a_hundred_frames_somebody_is_forgotten(golden):
    tracker, image, everybody = PoseFlow(), np.zeros((8, 8, 3), np.uint8), people_of(golden[0][0])
    tracker.update(image, everybody)
    for _ in range(100):
        tracker.update(image, everybody.take([0]))
    assert tracker.update(image, everybody).tolist() == [1, 5, 6, 7]
