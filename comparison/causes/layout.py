"""Channels last, written or read where channels first belong; heatmaps read from another place on."""
from __future__ import annotations

from typing import Tuple

import numpy as np

from comparison.causes.case import Case
from comparison.causes.finding import FOUND, Finding, best_of

TITLE = "bytes read otherwise: NHWC as NCHW, or from another byte on"
STARTS = (1, 2, 4, 8, 16, 20, 32, 64)  # values that a header takes


def reread(values: np.ndarray, axes: Tuple[int, ...]) -> np.ndarray:
    """The bytes of `values` written with permuted axes, read as if they were not."""
    return np.ascontiguousarray(values.transpose(axes)).reshape(values.shape)


def channels_last(values: np.ndarray) -> np.ndarray:
    return reread(values, (0, 2, 3, 1))


def moved(values: np.ndarray, start: int) -> np.ndarray:
    """Each person's values from number `start` on; the first ones follow the last."""
    return np.roll(values.reshape(len(values), -1), -start, axis=1).reshape(values.shape)


def test(case: Case) -> Finding:
    changes = {"writing (h, w, K) where (K, h, w) belongs": channels_last}
    for start in STARTS:
        changes[f"reading from value {start} on"] = lambda heatmaps, start=start: moved(heatmaps, start)
    by_heatmaps = best_of(case.heatmap_trials("layout", changes))
    if by_heatmaps.status == FOUND:
        return by_heatmaps
    return best_of([by_heatmaps,
                    *case.crop_trials("layout", {"writing (H, W, 3) where (3, H, W) belongs": channels_last})])
