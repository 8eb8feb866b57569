"""Only a few people are wrong, and with them nearly all of the difference goes."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.finding import FOUND, REPRODUCED, RULED_OUT, Finding, name_rows

TITLE = "only a few people wrong"


def test(case: Case) -> Finding:
    if case.few and case.rest < REPRODUCED:
        return Finding("few_people", FOUND, f"{case.share}: {name_rows(case.rows_of_a[case.wrong])}; the rest has "
                       f"{100 * case.rest:.2g} % of the difference")
    return Finding("few_people", RULED_OUT, f"{case.share}; the rest has {100 * case.rest:.2g} % of the difference",
                   case.rest)
