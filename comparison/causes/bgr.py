"""Red and blue exchanged, before or after the normalisation."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.causes.crops import colours, normalised
from comparison.causes.finding import Finding, best_of

TITLE = "colours in the order B, G, R"


def test(case: Case) -> Finding:
    spec = case.options.spec
    return best_of(case.crop_trials("bgr", {
        "reading the photograph as B, G, R": lambda crops: normalised(colours(crops, spec)[:, ::-1], spec),
        "exchanging R and B of the normalised crop": lambda crops: crops[:, ::-1]}))
