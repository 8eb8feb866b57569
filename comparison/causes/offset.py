"""Everything moved by the same amount: cells of heatmaps, pixels of crops, or keypoints."""
from __future__ import annotations

import functools
from typing import Tuple

import cv2
import numpy as np

from comparison.causes.case import Case
from comparison.causes.finding import FOUND, RULED_OUT, Finding, best_of, judge_trial, remainder

TITLE = "heatmaps or keypoints off by a constant"
CELLS_LEAST = 0.05  # what is below changes no keypoint
CELLS_REMAINDER = 0.97  # a sub-pixel offset of the crop shifts heatmaps only roughly, so it explains some per cent
PEOPLE_LEAST = 0.5  # of the people must be displaced the same way; other faults displace a quarter so
PIXELS_LEAST = 0.2  # of the input
JOINTS_LEAST = 0.5  # of the joints must be within a quarter of a heatmap cell of the median displacement
QUARTER_CELL = 1.0  # pixels of the input: a decoded peak lies on a raster of this


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        return explain_keypoints(*case.joints)
    moves = {f"moving the crop by {dx:+g}, {dy:+g} pixels": functools.partial(move_crops, dx=dx, dy=dy)
             for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)}
    return best_of([explain_heatmaps(*case.heatmaps), *case.crop_trials("offset", moves)])


def move_crops(crops: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """By parts of a pixel, as tools do that disagree whether pixels are points or squares."""
    matrix, size = np.array([[1, 0, dx], [0, 1, dy]]), crops.shape[:1:-1]
    return np.stack([[cv2.warpAffine(plane, matrix, size, borderMode=cv2.BORDER_REPLICATE) for plane in crop]
                     for crop in crops])


def shift_cells(heatmaps: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Shifted by whole cells; the border is repeated."""
    height, width = heatmaps.shape[2:]
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    return heatmaps[:, :, rows[:, None], columns]


def explain_heatmaps(a: np.ndarray, b: np.ndarray) -> Finding:
    """Whole cells are tried; a part of a cell is estimated from the slopes of each person's heatmaps."""
    whole = best_of([judge_trial("offset", f"shifting by {dx:+d} columns and {dy:+d} rows",
                                 remainder(shift_cells(a, dx, dy), a, b))
                     for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy])
    if whole.status == FOUND:
        return whole
    shifts, left = displacements(a, b)
    middle = np.median(shifts, axis=0)
    size = float(np.hypot(*middle))
    # The same way: no further from the median than the median is from zero.
    together = float((np.hypot(*(shifts - middle).T) < max(size, 1e-9)).mean())
    text = (f"b lies {middle[0]:+.3f} columns and {middle[1]:+.3f} rows of a heatmap beside a (median), "
            f"{100 * together:.0f} % of the people alike; shifting leaves {100 * left:.3g} % of the difference")
    found = size >= CELLS_LEAST and left < CELLS_REMAINDER and together >= PEOPLE_LEAST
    return Finding("offset", FOUND if found else RULED_OUT, text, left)


def displacements(a: np.ndarray, b: np.ndarray) -> Tuple[np.ndarray, float]:
    """(n, 2) least-squares shifts in x and y that take each person's heatmaps from a to b, and what the median shift
    leaves of the difference. To first order b = a - dx a_x - dy a_y (Lucas and Kanade)."""
    slopes = np.zeros((2, *a.shape))
    slopes[0, ..., 1:-1] = (a[..., 2:] - a[..., :-2]) / 2
    slopes[1, :, :, 1:-1] = (a[:, :, 2:] - a[:, :, :-2]) / 2
    difference = a.astype(np.float64) - b
    normal = np.einsum("inkyx,jnkyx->nij", slopes, slopes)
    right = np.einsum("inkyx,nkyx->ni", slopes, difference)
    shifts = np.stack([np.linalg.lstsq(*person, rcond=None)[0] for person in zip(normal, right)])
    rest = difference - np.einsum("inkyx,i->nkyx", slopes, np.median(shifts, axis=0))
    return shifts, float(np.linalg.norm(rest) / max(np.linalg.norm(difference), 1e-30))


def explain_keypoints(a: np.ndarray, b: np.ndarray) -> Finding:
    """(n, K, 2) each, pixels of the input."""
    moved = (b.astype(np.float64) - a).reshape(-1, 2)
    middle = np.median(moved, axis=0)
    near = float((np.abs(moved - middle).max(axis=1) <= QUARTER_CELL).mean())
    text = (f"keypoints of b lie {middle[0]:+.3f}, {middle[1]:+.3f} input pixels beside those of a (median x, y), "
            f"{100 * near:.0f} % of the joints within {QUARTER_CELL:g} of that")
    found = np.hypot(*middle) >= PIXELS_LEAST and near >= JOINTS_LEAST
    return Finding("offset", FOUND if found else RULED_OUT, text, remainder(a + middle, a, b))
