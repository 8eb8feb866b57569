"""Results without content: heatmaps of one value, of all or some people or joints; or the same for everybody."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.finding import FOUND, RULED_OUT, Finding, best_of, judge_trial, name_rows

TITLE = "flat or missing results: all zero, all equal, or the same for everybody"


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        return case.no_heatmaps("flat", "needs dumps of both: LABEL=DUMPS[,DUMPS_OF_MIRRORED]")
    a, b = case.heatmaps
    return best_of([explain(case, "b", a, b, case.fingerprints[1]), explain(case, "a", b, a, case.fingerprints[0])])


def explain(case: Case, side: str, right: np.ndarray, wrong: np.ndarray, peaks: np.ndarray) -> Finding:
    same = len(peaks) > 1 and (peaks == peaks[0]).all() and (wrong == wrong[0]).all()
    if same and not (wrong == wrong[0, :, :1, :1]).all():
        return Finding("flat", FOUND, f"{side} has the same heatmaps for all {len(peaks)} people", 0.0)
    flat = wrong.max(axis=(2, 3)) == wrong.min(axis=(2, 3))  # (n, K)
    if not flat.any():
        return Finding("flat", RULED_OUT, f"no heatmap of {side} is flat", 1.0)
    values = sorted(set(wrong.max(axis=(2, 3))[flat].tolist()))
    whose = f"{name_rows(case.sample[flat.all(axis=1)])}" if flat.all(axis=1).any() else \
        f"joints {', '.join(map(str, np.nonzero(flat.any(axis=0))[0].tolist()))}"
    changed = np.where(flat[..., None, None], wrong, right)
    words = f"heatmaps of {whose} in {side} hold one value each ({', '.join(f'{one:g}' for one in values[:3])}); that"
    left = np.linalg.norm(changed - wrong) / max(float(np.linalg.norm(right - wrong)), 1e-30)
    return judge_trial("flat", words, float(left))
