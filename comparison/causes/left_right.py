"""Left and right joints exchanged, of both crops or of the mirrored one alone."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.causes.flip_test import explain_flip
from comparison.finding import Finding, best_of, judge_trial, remainder

TITLE = "left and right joints not swapped"


def test(case: Case) -> Finding:
    def swap_joints(values: np.ndarray) -> np.ndarray:
        return values[:, case.options.spec.skeleton.mirrored]

    if case.heatmaps is not None:
        return best_of(case.heatmap_trials("left_right", {"swapping left and right joints": swap_joints}))
    a, b = case.joints
    return best_of([judge_trial("left_right", "swapping left and right joints", remainder(swap_joints(a), a, b)),
                    *explain_flip(case, "left_right")])
