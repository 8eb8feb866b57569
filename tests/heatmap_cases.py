"""Heatmaps whose joints lie between cells."""
from __future__ import annotations

import numpy as np

SIGMA = 2.0  # cells, of the heatmaps that pose networks are trained with


def gaussians(places: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, K, 2) x, y -> (N, K, height, width) float32 with a top of height 1 at each place."""
    x, y = (places[..., axis, None, None] for axis in (0, 1))
    rows, columns = np.arange(height)[:, None], np.arange(width)
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * SIGMA ** 2)).astype(np.float32)
