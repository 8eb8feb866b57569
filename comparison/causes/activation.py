"""A function applied to heatmaps that should not be, or left out."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.causes.finding import Finding, best_of

TITLE = "a function applied to the heatmaps, or left out"


def softmax(heatmaps: np.ndarray) -> np.ndarray:
    """Over the cells of each heatmap."""
    raised = np.exp(heatmaps - heatmaps.max(axis=(2, 3), keepdims=True))
    return raised / raised.sum(axis=(2, 3), keepdims=True)


def sigmoid(heatmaps: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-heatmaps))


def test(case: Case) -> Finding:
    return best_of(case.heatmap_trials("activation", {
        "a sigmoid": sigmoid, "tanh": np.tanh, "softmax over each heatmap": softmax, "an exponential": np.exp,
        "ReLU (negative values to 0)": lambda heatmaps: np.maximum(heatmaps, 0), "absolute values": np.abs,
        "the other sign": np.negative, "squares": np.square}))
