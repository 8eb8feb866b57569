"""From heatmaps to positions in them: mirror back, shift, find peaks.

Axes: N people, K joints, h w of a heatmap. Heatmaps are (N, K, h, w) float32; positions are (x, y).
"""
from __future__ import annotations

from functools import lru_cache
from typing import Callable, Dict, Tuple

import numpy as np

from pose.skeleton import COCO17, Skeleton

QUARTER = 0.25  # step towards the higher neighbour of a peak, in heatmap pixels
# torch copies a row in blocks of this many values on an x86 CPU with AVX2; only `shift_original` depends on it.
TORCH_COPY_BLOCK = 16


def flip_back(heatmaps: np.ndarray, skeleton: Skeleton = COCO17) -> np.ndarray:
    """(N, K, h, w) heatmaps of mirrored crops -> heatmaps of the crops: mirrored, left and right joints swapped."""
    return heatmaps[:, skeleton.mirrored, :, ::-1]


def shift_clean(flipped: np.ndarray) -> np.ndarray:
    """Shift (..., w) heatmaps by one column to the right, which aligns mirrored ones. The first column is repeated."""
    shifted = np.empty(flipped.shape, flipped.dtype)
    shifted[..., 1:], shifted[..., 0] = flipped[..., :-1], flipped[..., 0]
    return shifted


def shift_original(flipped: np.ndarray) -> np.ndarray:
    """The shift of (..., w) heatmaps as AlphaPose's `flip_heatmap` computes it on an x86 CPU, bit for bit.

    It assigns a row to an overlapping view of itself, so later blocks read what earlier ones wrote: of 48 columns,
    17 holds column 15, and 33 to 47 all hold column 31. Published NPU figures contain this.
    """
    source = np.arange(flipped.shape[-1]) - 1
    source[0] = 0
    whole_blocks = (flipped.shape[-1] - 1) // TORCH_COPY_BLOCK * TORCH_COPY_BLOCK
    source[TORCH_COPY_BLOCK + 1:whole_blocks:TORCH_COPY_BLOCK] -= 1
    source[whole_blocks + 1:] = max(whole_blocks - 1, 0)
    return flipped[..., source]


FLIP_SHIFTS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {"clean": shift_clean, "original": shift_original}


def turned_back(heatmaps: np.ndarray, skeleton: Skeleton, flip_shift: str) -> np.ndarray:
    """`flip_back` and a shift of (N, K, h, w) heatmaps, which then lie on those of the crops; 7 times as fast."""
    people = len(heatmaps)
    cells = _cells_turned_back(skeleton, flip_shift, *heatmaps.shape[1:])
    return heatmaps.reshape(people, -1).take(cells, axis=1, mode="clip").reshape(heatmaps.shape)


@lru_cache(maxsize=2)
def _cells_turned_back(skeleton: Skeleton, flip_shift: str, joints: int, height: int, width: int) -> np.ndarray:
    """(K * h * w,) cell of the mirrored crop's heatmaps that comes to each place."""
    cells = np.arange(joints * height * width).reshape(1, joints, height, width)
    return FLIP_SHIFTS[flip_shift](flip_back(cells, skeleton)).reshape(-1)


def moves_inside(x: np.ndarray, y: np.ndarray, width: int, height: int) -> Tuple[np.ndarray, np.ndarray]:
    """Two (n,) bool: which of the peaks at (n,) x and y move along x, and which along y. A peak moves along both if
    both of its coordinates are at least 2 away from the low and the high border."""
    inside = (1 < x) & (x < width - 1) & (1 < y) & (y < height - 1)
    return inside, inside


def moves_by_axis(x: np.ndarray, y: np.ndarray, width: int, height: int) -> Tuple[np.ndarray, np.ndarray]:
    """Two (n,) bool as `moves_inside`, but each axis separately, if the other coordinate is not 0 (mmpose 1.x)."""
    return (1 < x) & (x < width - 1) & (0 < y), (1 < y) & (y < height - 1) & (0 < x)


def find_peaks(heatmaps: np.ndarray, empty: int = 0, moves: Callable[..., Tuple] = moves_inside,
               ) -> Tuple[np.ndarray, np.ndarray]:
    """(N, K, h, w) -> (N, K, 2) float32 positions in heatmap pixels, (N, K) float32 peak values.

    The first of equal maxima in row-major order. A joint without a positive value is placed at (empty, empty). A peak
    that `moves` selects moves a quarter pixel towards the higher neighbour on that axis.
    """
    people, joints, height, width = heatmaps.shape
    rows = heatmaps.reshape(people * joints, height * width)
    index = rows.argmax(axis=1)
    each = np.arange(len(rows))
    scores = rows[each, index]
    x, y = np.where(scores > 0, (index % width, index // width), empty)
    positions = np.stack([x, y], axis=1).astype(np.float32)
    for axis, (step, moving) in enumerate(zip((1, width), moves(x, y, width, height))):
        row, at = each[moving], index[moving]
        positions[moving, axis] += QUARTER * np.sign(rows[row, at + step] - rows[row, at - step])
    return positions.reshape(people, joints, 2), scores.reshape(people, joints)


def expected_positions(heatmaps: np.ndarray, norm: str) -> Tuple[np.ndarray, np.ndarray]:
    """(N, K, h, w) logits of a model trained with L1JointRegression -> positions and scores as `find_peaks` gives.

    The position is the expectation under the heatmap, made positive by `norm` and divided by its sum. The score is the
    highest sigmoid; softmax has none and scores 1 (AlphaPose's `_integral_tensor`).
    """
    people, joints, height, width = heatmaps.shape
    rows = heatmaps.reshape(people, joints, height * width)
    if norm == "sigmoid":
        weights = 1 / (1 + np.exp(-rows))
        scores = weights.max(axis=2)
    else:
        weights = np.exp(rows - rows.max(axis=2, keepdims=True))
        scores = np.ones((people, joints), np.float32)
    maps = (weights / weights.sum(axis=2, keepdims=True)).reshape(heatmaps.shape)
    x = maps.sum(axis=2) @ np.arange(width, dtype=np.float32)
    y = maps.sum(axis=3) @ np.arange(height, dtype=np.float32)
    return np.stack([x, y], axis=2), scores
