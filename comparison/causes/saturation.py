"""A ceiling that many joints share, where the other side goes beyond it."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.finding import FOUND, RULED_OUT, Finding, judge_trial, remainder

TITLE = "values saturated, as in float16 or a clipped int8 range"
FLOAT16_MOST = float(np.finfo(np.float16).max)  # 65504
CLIPPED = 0.002  # of all joints must share the highest value before it is called a ceiling; chance gives one of them


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        return case.heatmap_trials("saturation", {})[0]
    (a, b), (peaks_a, peaks_b) = case.heatmaps, case.fingerprints
    tested = [explain("b", a, b, peaks_a, peaks_b), explain("a", b, a, peaks_b, peaks_a)]
    return next((finding for finding in tested if finding.status == FOUND), tested[0])


def explain(side: str, a: np.ndarray, b: np.ndarray, peaks_a: np.ndarray, peaks_b: np.ndarray) -> Finding:
    """A ceiling of b, which is called `side`: one highest value that many joints share, where a goes beyond it."""
    ceiling = float(peaks_b.max())
    at_ceiling, beyond = float((peaks_b == ceiling).mean()), float((peaks_a > ceiling).mean())
    name = "float16's largest value" if ceiling == FLOAT16_MOST else "a ceiling"
    text = (f"{100 * at_ceiling:.2g} % of the peaks of {side} are exactly {ceiling:g}, and {100 * beyond:.2g} % of the "
            "other's are higher")
    if min(at_ceiling, beyond) < CLIPPED:
        return Finding("saturation", RULED_OUT, text)
    return judge_trial("saturation", f"{text}; {name}; clipping there", remainder(np.minimum(a, ceiling), a, b))
