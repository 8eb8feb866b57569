"""Heights of heatmaps, or scores of joints, times a constant."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.causes.finding import RULED_OUT, Finding, judge_trial, remainder

TITLE = "scores scaled"
SCALE_LEAST = 0.005


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        return explain_scores(*(values[case.wrong] for values in case.fingerprints))
    return explain_heatmaps(*case.heatmaps)


def explain_heatmaps(a: np.ndarray, b: np.ndarray) -> Finding:
    """b = scale a + constant by least squares. What is left is held against b's own variation too: a b of nothing but
    noise is near scale 0."""
    flat_a, flat_b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    variance = flat_a.var()
    scale = float(np.mean((flat_a - flat_a.mean()) * (flat_b - flat_b.mean())) / variance) if variance else 1.0
    constant = float(flat_b.mean() - scale * flat_a.mean())
    fitted = scale * flat_a + constant
    left = max(remainder(fitted, flat_a, flat_b), remainder(fitted, np.full(len(flat_b), flat_b.mean()), flat_b))
    trial = judge_trial("scaled", f"b = {scale:.4g} a {constant:+.4g}", left)
    if abs(scale - 1) < SCALE_LEAST and abs(constant) < SCALE_LEAST * flat_a.std():
        trial.status = RULED_OUT
    return trial


def explain_scores(a: np.ndarray, b: np.ndarray) -> Finding:
    flat_a, flat_b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    scale = float(flat_a @ flat_b / max(flat_a @ flat_a, 1e-30))
    if abs(scale - 1) < SCALE_LEAST:
        return Finding("scaled", RULED_OUT, f"b's scores are {scale:.4g} times a's")
    return judge_trial("scaled", f"scores of b = {scale:.4g} times a's", remainder(scale * flat_a, flat_a, flat_b))
