"""Heatmaps with rows and columns exchanged."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.causes.finding import Finding, best_of
from comparison.causes.layout import reread

TITLE = "heatmaps transposed"


def test(case: Case) -> Finding:
    return best_of(case.heatmap_trials("transposed", {
        "writing (K, w, h) where (K, h, w) belongs": lambda heatmaps: reread(heatmaps, (0, 1, 3, 2))}))
