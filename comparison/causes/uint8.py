"""Bytes that were never divided by 255."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.causes.crops import colours, normalised
from comparison.finding import Finding, best_of

TITLE = "values 0..255 where normalised floats belong"


def test(case: Case) -> Finding:
    spec = case.options.spec
    return best_of(case.crop_trials("uint8", {
        "values 0..255": lambda crops: colours(crops, spec) * 255,
        "normalising without dividing by 255": lambda crops: normalised(colours(crops, spec) * 255, spec)}))
