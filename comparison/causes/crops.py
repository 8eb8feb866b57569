"""Crops as the bins hold them, (n, 3, H, W) normalised, and as colours in 0..1."""
from __future__ import annotations

from typing import Sequence

import numpy as np

from pose.spec import PoseSpec


def colours(crops: np.ndarray, spec: PoseSpec) -> np.ndarray:
    return crops * _columns(spec.std) + _columns(spec.mean)


def normalised(values: np.ndarray, spec: PoseSpec) -> np.ndarray:
    return normalised_by(values, spec.mean, spec.std)


def normalised_by(values: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    return (values - _columns(mean)) / _columns(std)


def _columns(values: Sequence[float]) -> np.ndarray:
    return np.array(values, np.float32)[:, None, None]
