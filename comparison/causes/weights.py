"""The model gives one side, and the other by none of the changes tried."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.causes.finding import FOUND, NOT_TESTED, RULED_OUT, Finding

TITLE = "another model: its weights differ"


def test(case: Case) -> Finding:
    (finding,) = case.crop_trials("weights", {"nothing": lambda crops: crops})
    if finding.status == NOT_TESTED and case.heatmaps is not None and case.model is None:
        return Finding("weights", NOT_TESTED, recorded_models(case) or finding.evidence)
    if case.model is None or finding.unexplained is None:
        return finding
    if case.few:
        return Finding("weights", RULED_OUT, f"{case.share}; other weights would change everybody")
    right, left = ("a", case.model.left_a) if case.model.name == "b" else ("b", case.model.left_b)
    return Finding("weights", FOUND, f"the model reproduces {right} to {100 * left:.2g} % of the difference, and "
                   f"{case.model.name} by none of the changes tried", 1.0)


def recorded_models(case: Case) -> str:
    """What the settings beside the dumps tell of the models; nothing when one side has none."""
    named = [f"{record['model']} ({record['model_sha256'][:12]}, {record['backend']})"
             for record in (case.a.records[0], case.b.records[0]) if record]
    if len(named) < 2:
        return ""
    return f"the dumps were made by {named[0]} and {named[1]}; needs --model and --input to tell which is right"
