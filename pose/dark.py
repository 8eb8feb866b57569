"""DARK: a peak moved to where a Gaussian that fits the heatmap around it has its top.

F. Zhang, X. Zhu, H. Dai, M. Ye, C. Zhu, Distribution-Aware Coordinate Representation for Human Pose Estimation, CVPR
2020. The heatmap is smoothed; its logarithm, which of a Gaussian is a parabola, gives the step by Newton's method.
The paper scales the smoothed heatmap to its old maximum, which only adds a constant to the logarithm.
Axes: N people, K joints, h w of a heatmap. Heatmaps are (N, K, h, w) float32; positions are (x, y).
"""
from __future__ import annotations

from typing import Tuple

import cv2
import numpy as np

from pose.heatmaps import find_peaks

KERNEL, SIGMA = (11, 11), 2.0  # of the paper, for heatmaps of a crop of 256x192 that were drawn with a sigma of 2
LEAST = np.float32(1e-10)  # what is not positive has no logarithm


def moves_nowhere(x: np.ndarray, y: np.ndarray, width: int, height: int) -> Tuple[np.ndarray, np.ndarray]:
    """Two (n,) bool as `pose.heatmaps.moves_inside`: none moves by a quarter."""
    return np.zeros(len(x), bool), np.zeros(len(y), bool)


def find_refined_peaks(heatmaps: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(N, K, h, w) -> (N, K, 2) float32 positions in heatmap pixels, (N, K) float32 peak values.

    Peaks as `pose.heatmaps.find_peaks`, but those that have two cells on every side move by the step of Newton's method
    and not by a quarter. A step of a cell or more leads away from the peak, as where the heatmap is flat or has two;
    the paper takes it, and here the peak stays.
    """
    people, joints, height, width = heatmaps.shape
    positions, scores = find_peaks(heatmaps, moves=moves_nowhere)
    x, y = positions.reshape(-1, 2).astype(int).T
    at = np.nonzero((1 < x) & (x < width - 2) & (1 < y) & (y < height - 2))[0]
    x, y = x[at], y[at]
    rows = heatmaps.reshape(-1, height, width)
    logs = np.stack([np.log(np.maximum(_smoothed(rows[row]), LEAST)) for row in at]) if len(at) else rows[:0]

    def cell(right: int, down: int) -> np.ndarray:
        return logs[np.arange(len(at)), y + down, x + right]

    dx, dy = (cell(1, 0) - cell(-1, 0)) / 2, (cell(0, 1) - cell(0, -1)) / 2
    dxx, dyy = ((cell(2 * right, 2 * down) - 2 * cell(0, 0) + cell(-2 * right, -2 * down)) / 4
                for right, down in ((1, 0), (0, 1)))
    dxy = (cell(1, 1) - cell(1, -1) - cell(-1, 1) + cell(-1, -1)) / 4
    determinant = dxx * dyy - dxy * dxy
    steps = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1)
    short = (np.abs(steps) < np.abs(determinant)[:, None]).all(axis=1)
    positions.reshape(-1, 2)[at[short]] += steps[short] / determinant[short, None]
    return positions, scores


def _smoothed(heatmap: np.ndarray) -> np.ndarray:
    """(h, w); beyond its borders are zeros."""
    return cv2.GaussianBlur(heatmap, KERNEL, SIGMA, borderType=cv2.BORDER_CONSTANT)
