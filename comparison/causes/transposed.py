"""Rows and columns exchanged, of heatmaps or of crops."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.finding import FOUND, Finding, best_of
from comparison.readings import reread

TITLE = "heatmaps or crops transposed"


def test(case: Case) -> Finding:
    by_heatmaps = best_of(case.heatmap_trials("transposed", {
        "writing (K, w, h) where (K, h, w) belongs": lambda heatmaps: reread(heatmaps, (0, 1, 3, 2))}))
    return by_heatmaps if by_heatmaps.status == FOUND else best_of([by_heatmaps, *case.crop_trials("transposed", {
        "writing (3, W, H) where (3, H, W) belongs": lambda crops: reread(crops, (0, 1, 3, 2))})])
