"""A function applied to heatmaps that should not be, or left out."""
from __future__ import annotations

from typing import Dict

import numpy as np

from comparison.causes.case import Case
from comparison.causes.rerun import Change
from comparison.finding import Finding, best_of, judge_trial, remainder

TITLE = "a function applied to the heatmaps, or left out"


def softmax(heatmaps: np.ndarray) -> np.ndarray:
    """Over the cells of each heatmap."""
    raised = np.exp(heatmaps - heatmaps.max(axis=(2, 3), keepdims=True))
    return raised / raised.sum(axis=(2, 3), keepdims=True)


def sigmoid(heatmaps: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-heatmaps))


OF_SCORES: Dict[str, Change] = {"a sigmoid": sigmoid, "squares": np.square,
                                "an exponential": np.exp, "1 minus": lambda scores: 1 - scores}


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        a, b = (scores[case.wrong] for scores in case.fingerprints)
        return best_of([judge_trial("activation", f"{words} of the joint scores in {side}", remainder(
            change(right), right, wrong)) for words, change in OF_SCORES.items()
            for side, right, wrong in (("b", a, b), ("a", b, a))])
    return best_of(case.heatmap_trials("activation", {
        "a sigmoid": sigmoid, "tanh": np.tanh, "softmax over each heatmap": softmax, "an exponential": np.exp,
        "ReLU (negative values to 0)": lambda heatmaps: np.maximum(heatmaps, 0), "absolute values": np.abs,
        **{f"ReLU with a slope of {slope}": lambda heatmaps, slope=slope: np.maximum(heatmaps, heatmaps * slope)
           for slope in (0.01, 0.1, 0.2)},
        "values below 0 and above 1 cut off": lambda heatmaps: np.clip(heatmaps, 0, 1),
        "the other sign": np.negative, "squares": np.square}))
