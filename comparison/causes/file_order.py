"""Whose result lies under a person's name: files shifted, permuted, or written twice.

Peak heights of 17 joints are a fingerprint: no two people share them but by being the same crop.
"""
from __future__ import annotations

from typing import Tuple

import numpy as np

from comparison.causes.case import SAMPLE, Case
from comparison.decoded import read_people
from comparison.finding import RULED_OUT, Finding, judge_trial, name_rows, remainder

TITLE = "files shifted or permuted"
ROWS_LOOKED_UP = 400  # wrong people that are looked for among all; enough to see a rule
LARGEST_BATCH = 64  # a tail is shorter than a batch
SAME = 0.2  # a fingerprint this much nearer than the person's own is that of another
MOST = 0.8  # of the wrong people must follow the rule


def test(case: Case) -> Finding:
    rows, source, share = people_elsewhere(case)
    if share < MOST:
        return Finding("file_order", RULED_OUT, not_elsewhere(share), 1 - share)
    if is_tail(case, rows, source):
        return Finding("file_order", RULED_OUT, repeats(rows, source), 1 - share)
    return judge_trial("file_order", f"{describe_order(rows, source, case.total)}; that", left_by(case, rows, source))


def left_by(case: Case, rows: np.ndarray, source: np.ndarray) -> float:
    """What is left of the difference when the results of rows `source` of a lie under `rows`."""
    a, b = case.fingerprints
    if case.heatmaps is None:
        return remainder(a[source], a[rows], b[rows])
    some = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
    reader_a, reader_b = (result.readers[case.folder] for result in (case.a, case.b))
    return remainder(read_people(reader_a, source[some]), read_people(reader_a, rows[some]),
                     read_people(reader_b, rows[some]))


def people_elsewhere(case: Case) -> Tuple[np.ndarray, np.ndarray, float]:
    """Rows of b that hold somebody else's result, the rows of a that it belongs to, and their share of the wrong people
    that were looked up."""
    rows = case.wrong[np.linspace(0, len(case.wrong) - 1, min(len(case.wrong), ROWS_LOOKED_UP)).astype(int)]
    source, elsewhere = find_sources(*case.fingerprints, rows)
    return rows[elsewhere], source[elsewhere], float(elsewhere.mean())


def find_sources(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """For `rows` of b: the nearest row of a, and whether it is another row and clearly nearer than the own. (N, K)
    fingerprints each."""
    source, elsewhere = np.empty(len(rows), np.int64), np.zeros(len(rows), bool)
    for at, row in enumerate(rows):
        distances = np.linalg.norm(a - b[row], axis=1)
        source[at] = distances.argmin()
        elsewhere[at] = distances[source[at]] < SAME * distances[row]
    return source, elsewhere


def is_tail(case: Case, rows: np.ndarray, source: np.ndarray) -> bool:
    """The wrong people end the run, are fewer than a batch, and repeat results that stand elsewhere too."""
    wrong, people = case.wrong, case.total
    ends = wrong[-1] == people - 1 and wrong[0] == people - len(wrong)
    repeated = len(set(source.tolist())) < len(source) or not set(source.tolist()) & set(wrong.tolist())
    return bool(ends and repeated and len(wrong) < min(LARGEST_BATCH, people / 2))


def not_elsewhere(share: float) -> str:
    return f"{100 * share:.0f} % of the wrong people in b look like somebody else in a"


def repeats(rows: np.ndarray, source: np.ndarray) -> str:
    return f"{name_rows(rows)} of b hold the results of {name_rows(source)} of a"


def describe_order(rows: np.ndarray, source: np.ndarray, people: int) -> str:
    """The rule by which `rows` of b hold the results of rows `source` of a, in words."""
    offsets, counts = np.unique((source - rows) % people, return_counts=True)
    offset = int(offsets[counts.argmax()])
    as_text = np.array(sorted(range(people), key=str))
    if counts.max() >= MOST * len(rows) and len(rows) > 1:
        by = offset if offset <= people // 2 else offset - people
        return f"shifted: file i of b holds what file i {by:+d} of a holds, in {counts.max()} of {len(rows)} looked up"
    if (as_text[rows] == source).mean() >= MOST:
        return "permuted: b is in the order 0, 1, 10, 100, ...: names without leading zeros were sorted as text"
    if (people - 1 - rows == source).mean() >= MOST:
        return "permuted: b is in reversed order"
    some = ", ".join(f"{row} holds {other}" for row, other in zip(rows[:4].tolist(), source[:4].tolist()))
    kind = "permuted" if len(set(source.tolist())) == len(source) else "written more than once"
    return f"{kind}: of b, file {some}, ..."
