"""Why two results differ: every cause is tested against the data until one reproduces it.

Faults of the dumps are looked for where the dumps differ; where they agree, or are not there, in the keypoints.
"""
from __future__ import annotations

from typing import List, Set, Union

from comparison.causes import CAUSES
from comparison.causes.case import case_of_dumps, case_of_keypoints
from comparison.causes.features import FeatureRerun, try_features
from comparison.causes.finding import FOUND, NOT_TESTED, RULED_OUT, STATUSES, Finding, best_of
from comparison.causes.rerun import Rerun
from comparison.results import Options, Result


def diagnose(a: Result, b: Result, options: Options, broken: Set[str],
             rerun: Union[Rerun, FeatureRerun, None]) -> List[Finding]:
    """One finding for every cause, those found first. `broken` are the levels at which the two differ."""
    if a.features and b.features:
        findings = try_features(a.features, b.features, broken, rerun if isinstance(rerun, FeatureRerun) else None)
        return conclude(findings)
    rerun = rerun if isinstance(rerun, Rerun) else None
    if not broken:
        return [Finding(cause, NOT_TESTED, "the results agree") for cause in CAUSES]
    case = case_of_dumps(a, b, options, rerun) if broken & {"tensors", "heatmaps"} else case_of_keypoints(a, b, options)
    findings: List[Finding] = []
    for name, cause in CAUSES.items():
        found = next((finding for finding in findings if finding.status == FOUND), None)
        findings.append(Finding(name, RULED_OUT, f"{found.title} accounts for the difference") if found else
                        cause.test(case))
    return in_order(findings)


def in_order(findings: List[Finding]) -> List[Finding]:
    return sorted(findings, key=lambda finding: STATUSES.index(finding.status))


def conclude(findings: List[Finding]) -> List[Finding]:
    """Of those found, the one that leaves least of the difference stands."""
    named = best_of(findings)
    for finding in findings:
        if finding.status == FOUND and finding is not named:
            finding.status = RULED_OUT
            finding.evidence += f"; {named.title} leaves less"
    return in_order(findings)
