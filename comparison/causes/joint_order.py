"""Joints in another order than that of left and right exchanged."""
from __future__ import annotations

from typing import Tuple

import numpy as np

from comparison.causes.case import Case
from comparison.finding import RULED_OUT, Finding, best_of, judge_trial, remainder
from pose.skeleton import Skeleton

TITLE = "joints in another order or one for another, or x and y exchanged"


def test(case: Case) -> Finding:
    if case.heatmaps is not None:
        a, b = case.heatmaps
        return explain(a, b, case.options.spec.skeleton)
    a, b = case.joints
    return best_of([explain(a, b, case.options.spec.skeleton),
                    judge_trial("joint_order", "exchanging x and y", remainder(a[..., ::-1], a, b))])


def explain(a: np.ndarray, b: np.ndarray, skeleton: Skeleton) -> Finding:
    """Of each joint of b, the joint of a that is nearest. (n, K, ...) each."""
    order = nearest_joints(a, b)
    if order == tuple(range(len(order))):
        return Finding("joint_order", RULED_OUT, "the joints of b are not those of a in another order", 1.0)
    moved = [f"{skeleton.joints[place]} holds {skeleton.joints[source]}" for place, source in enumerate(order)
             if place != source]
    return judge_trial("joint_order", f"of b, {', '.join(moved[:4])}{', ...' if moved[4:] else ''}; that",
                       remainder(a[:, list(order)], a, b))


def nearest_joints(a: np.ndarray, b: np.ndarray) -> Tuple[int, ...]:
    rows_a, rows_b = (values.transpose(1, 0, *range(2, values.ndim)).reshape(values.shape[1], -1).astype(np.float64)
                      for values in (a, b))
    distances = (rows_b ** 2).sum(axis=1)[:, None] + (rows_a ** 2).sum(axis=1) - 2 * rows_b @ rows_a.T
    return tuple(distances.argmin(axis=1).tolist())
