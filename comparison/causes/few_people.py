"""Nothing else accounts for it, and only a few people are wrong."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.causes.finding import FOUND, RULED_OUT, Finding, name_rows

TITLE = "only a few people wrong"


def test(case: Case) -> Finding:
    if case.few and not case.found:
        rows = name_rows(case.rows_of_a[case.wrong])
        return Finding("few_people", FOUND, f"{case.share}: {rows}; the rest agrees")
    return Finding("few_people", RULED_OUT, case.share)
