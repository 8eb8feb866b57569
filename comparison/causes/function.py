"""Every value replaced by some function of it, whichever."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.finding import CONSISTENT, FOUND, Finding, best_of, judge_trial, remainder

TITLE = "each value replaced by a function of it"
FITTED = 0.015  # what is left, at most: a curve is fitted to the data, and those of real functions left up to 0.011
KNOTS = 256  # of the curve; heatmaps of one person have 52,000 values


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        return case.no_heatmaps("function", "needs dumps of both: LABEL=DUMPS[,DUMPS_OF_MIRRORED]")
    a, b = case.heatmaps
    finding = best_of([judge_trial("function", f"a curve from a value of {names} to the other's",
                                   left_by_curve(one, other))
                       for names, one, other in (("a", a, b), ("b", b, a))])
    if finding.status == FOUND and finding.unexplained is not None and finding.unexplained >= FITTED:
        finding.status = CONSISTENT
    return finding


def left_by_curve(a: np.ndarray, b: np.ndarray) -> float:
    return remainder(curve(a, b), a, b)


def curve(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`values` through the curve, of straight lines, that leads through the means of both in groups of like values:
    half of the groups are of equal numbers, half of equal ranges, since most values are low and peaks are few."""
    order = np.argsort(values, axis=None)
    x, y = (each.ravel()[order] for each in (values, others))
    starts = np.unique(np.concatenate([np.linspace(0, len(x), KNOTS // 2, endpoint=False).astype(int), np.searchsorted(
        x, np.linspace(x[0], x[-1], KNOTS // 2, endpoint=False))]))
    counts = np.diff([*starts, len(x)])
    mean_x, mean_y = (np.add.reduceat(each, starts, dtype=np.float64) / counts for each in (x, y))
    return np.interp(values, mean_x, mean_y)
