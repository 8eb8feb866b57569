"""Crops as the bins hold them, (n, 3, H, W) normalised, and as colours in 0..1."""
from __future__ import annotations

from typing import Tuple

import numpy as np

from pose.spec import PoseSpec


def _statistics(spec: PoseSpec) -> Tuple[np.ndarray, np.ndarray]:
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    return mean, std


def colours(crops: np.ndarray, spec: PoseSpec) -> np.ndarray:
    mean, std = _statistics(spec)
    return crops * std + mean


def normalised(values: np.ndarray, spec: PoseSpec) -> np.ndarray:
    mean, std = _statistics(spec)
    return (values - mean) / std
