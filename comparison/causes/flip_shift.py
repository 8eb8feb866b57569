"""The shift of the flip test left out or done otherwise, or no flip test."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.causes.flip_test import explain_flip
from comparison.finding import NOT_TESTED, RULED_OUT, Finding, best_of

TITLE = "flip test or peaks decoded otherwise: shift, mean or quarter cell"


def test(case: Case) -> Finding:
    if case.heatmaps is not None:
        return Finding("flip_shift", RULED_OUT, "the dumps differ, and the flip test comes after them")
    need = Finding("flip_shift", NOT_TESTED, "needs dumps of normal and mirrored bins, and --manifest")
    return best_of([*explain_flip(case, "flip_shift"), need])
