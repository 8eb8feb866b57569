"""Stretched: heatmaps or crops resized with corners aligned or twice, keypoints of a photo of another size."""
from __future__ import annotations

from typing import List, Optional

import cv2
import numpy as np

from comparison.causes.case import Case
from comparison.finding import FOUND, Finding, best_of, judge_trial, remainder

TITLE = "stretched or resized: corners aligned, another size, or coordinates of the crop"
PEOPLE = 8  # whose heatmaps are stretched
ROUNDS = 6  # until the estimated stretch no longer changes
STRETCH_LEAST = 0.003  # less is a move
STEPS = 32  # to a pixel, of OpenCV's bilinear interpolation
HOW = {"": None, ", as OpenCV interpolates,": STEPS}


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        return best_of(keypoint_trials(case))
    a, b = (heatmaps[:PEOPLE] for heatmaps in case.heatmaps)
    by_heatmaps = best_of([*explain("b", a, b), *explain("a", b, a)])
    if by_heatmaps.status == FOUND:
        return by_heatmaps
    height, width = case.options.spec.input_size
    return best_of([by_heatmaps, *case.crop_trials("resampling", {
        "crops of half the size, enlarged": lambda crops: resized(crops, 0.5),
        "crops with their corners aligned": lambda crops: stretched(
            crops, np.array([0, 0, width / (width - 1), height / (height - 1)]), STEPS)})])


def explain(side: str, right: np.ndarray, wrong: np.ndarray) -> List[Finding]:
    half = judge_trial("resampling", f"heatmaps of half the size, enlarged, in {side}",
                       remainder(resized(right, 0.5), right, wrong))
    estimated = estimate(right, wrong)
    if np.abs(estimated[2:] - 1).max() < STRETCH_LEAST:
        return [half]
    words = "stretching by {2:.4f} and {3:.4f} and moving by {0:.3f} and {1:.3f} cells (x, y)".format(*estimated)
    return [half, *(judge_trial("resampling", f"{words}{how} in {side}", remainder(
        stretched(right, estimated, steps), right, wrong)) for how, steps in HOW.items())]


def resized(values: np.ndarray, size: float) -> np.ndarray:
    """(n, C, H, W) made smaller and as large as before, bilinear."""
    return np.stack([[cv2.resize(cv2.resize(plane, None, fx=size, fy=size), plane.shape[::-1]) for plane in one]
                     for one in values])


def weights(size: int, scale: float, move: float, steps: Optional[int]) -> np.ndarray:
    """(size, size) that take a line of values to the line whose value i is that at scale i + move, linear, the last
    values repeated."""
    places = scale * np.arange(size) + move
    places = np.clip(np.rint(places * steps) / steps if steps else places, 0, size - 1)
    low = np.minimum(places.astype(int), size - 2)
    made = np.zeros((size, size), np.float32)
    made[np.arange(size), low] = 1 - (places - low)
    made[np.arange(size), low + 1] += places - low
    return made


def stretched(values: np.ndarray, by: np.ndarray, steps: Optional[int] = None) -> np.ndarray:
    """(n, C, H, W) enlarged by by[2], by[3] along x and y about the first cell, then moved by by[0], by[1] cells."""
    height, width = values.shape[2:]
    rows, columns = (weights(size, 1 / by[2 + axis], -by[axis] / by[2 + axis], steps)
                     for size, axis in ((height, 1), (width, 0)))
    return rows @ values @ columns.T


def estimate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Moves and scales of x and y that take a nearest to b, (4,): least squares on the slopes of a, again and again
    from where it led (Lucas and Kanade)."""
    by = np.array([0.0, 0.0, 1.0, 1.0])
    y, x = np.mgrid[:a.shape[2], :a.shape[3]]
    for _ in range(ROUNDS):
        here = stretched(a, by)
        slope_y, slope_x = np.gradient(here, axis=(2, 3))
        columns = np.stack([-slope_x, -slope_y, -slope_x * x, -slope_y * y]).reshape(4, -1)
        step = np.linalg.lstsq(columns @ columns.T, columns @ (b - here).ravel(), rcond=None)[0]
        by = np.clip(np.concatenate([by[:2] * (1 + step[2:]) + step[:2], by[2:] * (1 + step[2:])]),
                     [-8, -8, 0.5, 0.5], [8, 8, 2, 2])
    return by


def keypoint_trials(case: Case) -> List[Finding]:
    """Keypoints (n, K, 2) of another size of photo, or in pixels of the crop or of the input."""
    a, b = (joints.astype(np.float64) for joints in case.joints)
    scales, moves = zip(*(np.polyfit(a[..., axis].ravel(), b[..., axis].ravel(), 1) for axis in (0, 1)))
    people, rows = case.a.people, case.rows_of_a[case.wrong]
    sizes = np.stack([people.widths[rows], people.areas[rows] / np.maximum(people.widths[rows], 1e-6)], axis=1)
    inside = a - (people.centers[rows] - sizes / 2)[:, None]
    given = {f"b = {scales[0]:.4g} x {moves[0]:+.4g}, {scales[1]:.4g} y {moves[1]:+.4g}": a * scales + moves,
             "taking the crop's corner for the photo's": inside,
             "pixels of the input, not of the photo,": inside * case.pixels[:, None, None]}
    return [judge_trial("resampling", words, remainder(values, a, b)) for words, values in given.items()]
