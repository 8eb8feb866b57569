"""Mean and standard deviation left out, or applied twice."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.causes.crops import colours, normalised
from comparison.causes.finding import Finding, best_of

TITLE = "normalisation missing or applied twice"


def test(case: Case) -> Finding:
    spec = case.options.spec
    return best_of(case.crop_trials("normalisation", {
        "leaving out the normalisation (values 0..1)": lambda crops: colours(crops, spec),
        "normalising twice": lambda crops: normalised(crops, spec)}))
