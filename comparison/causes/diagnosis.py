"""Why two results differ: every cause is tested against the data, and at most one is named.

Faults of the dumps are looked for where the dumps differ; where they agree, or are not there, in the keypoints.
"""
from __future__ import annotations

from typing import List, Set, Union

from comparison.causes import CAUSES
from comparison.causes.case import case_of_dumps, case_of_keypoints
from comparison.causes.features import FeatureRerun, try_features
from comparison.causes.finding import FOUND, NOT_TESTED, RULED_OUT, Finding, best_of
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
        return [Finding(cause, RULED_OUT, "the results agree") for cause in CAUSES]
    if broken & {"tensors", "heatmaps"}:
        case = case_of_dumps(a, b, options, rerun)
    else:
        case = case_of_keypoints(a, b, options)
    findings = []
    for cause in CAUSES.values():
        findings.append(cause.test(case))
        case.found += [finding for finding in findings[-1:] if finding.status == FOUND]
    return conclude(findings)


def conclude(findings: List[Finding]) -> List[Finding]:
    """Of those found, the one that leaves least of the difference stands."""
    named = best_of(findings)
    for finding in findings:
        if finding.status == FOUND and finding is not named:
            finding.status = RULED_OUT
            finding.evidence += f"; {named.title} leaves less"
    rank = [FOUND, RULED_OUT, NOT_TESTED]
    return sorted(findings, key=lambda finding: rank.index(finding.status))
