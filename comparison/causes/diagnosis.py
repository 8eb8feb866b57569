"""Why two results differ: every cause is tested against the data until one reproduces it.

Faults of the dumps are looked for where the dumps differ; where they agree, or are not there, in the keypoints.
"""
from __future__ import annotations

from typing import List, Set, Union

from comparison.causes import CAUSES, GENERAL
from comparison.causes.case import Case, case_of_dumps, case_of_keypoints
from comparison.causes.features import FeatureRerun, try_features
from comparison.causes.pairs import find_pair
from comparison.causes.rerun import Rerun
from comparison.finding import FOUND, NOT_TESTED, RULED_OUT, STATUSES, Finding, best_of, name_rows
from comparison.results import Options, Result

EXACT = 1e-3  # of the difference is left, at most


def diagnose(a: Result, b: Result, options: Options, broken: Set[str],
             rerun: Union[Rerun, FeatureRerun, None]) -> List[Finding]:
    """One finding for every cause, those found first. `broken` are the levels at which the two differ."""
    if a.features and b.features:
        features = rerun if isinstance(rerun, FeatureRerun) else None
        return conclude(try_features(a.features, b.features, broken, features))
    rerun = rerun if isinstance(rerun, Rerun) else None
    if not broken:
        return [Finding(cause, NOT_TESTED, "the results agree") for cause in CAUSES]
    case = case_of_dumps(a, b, options, rerun) if broken & {"tensors", "heatmaps"} else case_of_keypoints(a, b, options)
    findings: List[Finding] = []
    for name, cause in CAUSES.items():
        enough = is_found if name in GENERAL else is_exact
        found = next(filter(enough, findings), None)
        findings.append(Finding(name, RULED_OUT, f"{found.title} accounts for the difference") if found else
                        cause.test(case))
    if not any(map(is_found, findings)):
        both = {finding.cause: finding for finding in find_pair(case)}
        return in_order([both.get(finding.cause, finding) for finding in findings])
    return [name_people(finding, case) for finding in conclude(findings)]


def is_found(finding: Finding) -> bool:
    return finding.status == FOUND


def is_exact(finding: Finding) -> bool:
    """Whether nothing else need be tried; what leaves more than rounding may be like the cause and not be it."""
    return is_found(finding) and finding.unexplained is not None and finding.unexplained < EXACT


def name_people(finding: Finding, case: Case) -> Finding:
    """Where few people are wrong, say who."""
    if finding.status == FOUND and case.few and finding.cause != "few_people":
        finding.evidence += f"; only {case.share}: {name_rows(case.rows_of_a[case.wrong])}"
    return finding


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
