"""The last batch was not full, and its end holds results of other rows."""
from __future__ import annotations

from comparison.causes.case import Case
from comparison.causes.file_order import MOST, is_tail, left_by, not_elsewhere, people_elsewhere, repeats
from comparison.finding import RULED_OUT, Finding, judge_trial

TITLE = "tail of the last batch duplicated"


def test(case: Case) -> Finding:
    rows, source, share = people_elsewhere(case)
    if share < MOST:
        return Finding("batch_tail", RULED_OUT, not_elsewhere(share), 1 - share)
    if is_tail(case, rows, source):
        words = f"{repeats(rows, source)}; they end the last batch, and the rest is right; that"
        return judge_trial("batch_tail", words, left_by(case, rows, source))
    return Finding("batch_tail", RULED_OUT, "the wrong people are not the end of the last batch", 1 - share)
