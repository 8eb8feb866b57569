"""Heights of heatmaps, or scores of joints, times a constant."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.causes.function import left_by_curve
from comparison.finding import CONSISTENT, FOUND, RULED_OUT, Finding, best_of, judge_trial, remainder

TITLE = "scores scaled"
SCALE_LEAST = 0.005
STRAIGHT = 1 / 3  # of what a line leaves, a curve leaves less where it is none: a sigmoid is nearly straight about 0


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        a, b = case.fingerprints
        return explain_scores(a[case.wrong], b[case.wrong])
    finding = best_of([explain_heatmaps(*case.heatmaps), explain_joints(*case.heatmaps), explain_each(*case.heatmaps)])
    bent = left_by_curve(*case.heatmaps) if finding.status == FOUND else 1.0
    if finding.unexplained is not None and bent < STRAIGHT * finding.unexplained:
        finding.status, finding.evidence = CONSISTENT, f"{finding.evidence}; a curve leaves {100 * bent:.3g} %"
    return finding


def explain_heatmaps(a: np.ndarray, b: np.ndarray) -> Finding:
    """b = scale a + constant by least squares."""
    flat_a, flat_b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    variance = flat_a.var()
    scale = float(np.mean((flat_a - flat_a.mean()) * (flat_b - flat_b.mean())) / variance) if variance else 1.0
    constant = float(flat_b.mean() - scale * flat_a.mean())
    return judge_trial("scaled", f"b = {scale:.4g} a {constant:+.4g}",
                       remainder(scale * flat_a + constant, flat_a, flat_b))


def explain_joints(a: np.ndarray, b: np.ndarray) -> Finding:
    """b = scale a with a scale for each joint."""
    rows_a, rows_b = (values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1).astype(np.float64) for values in (a, b))
    scales = (rows_a * rows_b).sum(axis=1) / np.maximum((rows_a ** 2).sum(axis=1), 1e-30)
    return judge_trial("scaled", f"each joint by itself, b = {scales.min():.4g} to {scales.max():.4g} times a",
                       remainder(scales[:, None] * rows_a, rows_a, rows_b))


def explain_each(a: np.ndarray, b: np.ndarray) -> Finding:
    """b = scale a with a scale for each heatmap."""
    scales = (a * b).sum(axis=(2, 3), keepdims=True) / np.maximum((a * a).sum(axis=(2, 3), keepdims=True), 1e-30)
    return judge_trial("scaled", f"each heatmap by itself, b = {scales.min():.4g} to {scales.max():.4g} times a",
                       remainder(scales * a, a, b))


def explain_scores(a: np.ndarray, b: np.ndarray) -> Finding:
    flat_a, flat_b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    scale = float(flat_a @ flat_b) / max(float(flat_a @ flat_a), 1e-30)
    if abs(scale - 1) < SCALE_LEAST:
        return Finding("scaled", RULED_OUT, f"b's scores are {scale:.4g} times a's")
    return judge_trial("scaled", f"scores of b = {scale:.4g} times a's", remainder(scale * flat_a, flat_a, flat_b))
