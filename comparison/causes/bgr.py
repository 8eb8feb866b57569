"""Red and blue exchanged, before or after the normalisation."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.causes.crops import colours, normalised
from comparison.finding import Finding, best_of
from pose.spec import PoseSpec

TITLE = "colours in the order B, G, R"


def test(case: Case) -> Finding:
    spec = case.options.spec
    return best_of(case.crop_trials("bgr", {
        "reading the photo as B, G, R": lambda crops: read_as_bgr(crops, spec),
        "exchanging R and B of the normalised crop": lambda crops: crops[:, ::-1]}))


def read_as_bgr(crops: np.ndarray, spec: PoseSpec) -> np.ndarray:
    return normalised(colours(crops, spec)[:, ::-1], spec)
