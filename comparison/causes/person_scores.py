"""The scores of whole people, where their joints agree."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.finding import CONSISTENT, NOT_TESTED, RULED_OUT, Finding, judge_trial, remainder
from comparison.people import match_people

TITLE = "the scores of people differ"


def test(case: Case) -> Finding:
    rows = match_people(case.a.people, case.b.people)
    scores_a, scores_b = case.a.people.person_scores, case.b.people.person_scores
    if scores_a is None or scores_b is None:
        return Finding("person_scores", NOT_TESTED, "needs two keypoints files")
    a, b = scores_a[rows[0]], scores_b[rows[1]]
    off, most = np.abs(a - b), case.options.limits["person_scores_p95"]
    if np.percentile(off, 95) <= most * max(np.abs(a).mean(), 1e-30) or case.joints_differ:
        return Finding("person_scores", RULED_OUT, f"people's scores differ by {off.mean():.3g} (mean)")
    scale = float(a @ b / max(a @ a, 1e-30))
    trial = judge_trial("person_scores", f"scores of people in b = {scale:.4g} times a's", remainder(scale * a, a, b))
    if trial.status == RULED_OUT:
        trial.status, trial.unexplained = CONSISTENT, None
        trial.evidence = f"joints agree, and people's scores differ by {off.mean():.3g} (mean); {trial.evidence}"
    return trial
