"""Channels last, written or read where channels first belong: of heatmaps, or of crops."""
from __future__ import annotations

from typing import Tuple

import numpy as np

from comparison.causes.case import Case
from comparison.causes.finding import Finding, best_of

TITLE = "NHWC read as NCHW"


def reread(values: np.ndarray, axes: Tuple[int, ...]) -> np.ndarray:
    """The bytes of `values` written with permuted axes, read as if they were not."""
    return np.ascontiguousarray(values.transpose(axes)).reshape(values.shape)


def channels_last(values: np.ndarray) -> np.ndarray:
    return reread(values, (0, 2, 3, 1))


def test(case: Case) -> Finding:
    return best_of([*case.heatmap_trials("layout", {"writing (h, w, K) where (K, h, w) belongs": channels_last}),
                    *case.crop_trials("layout", {"writing (H, W, 3) where (3, H, W) belongs": channels_last})])
