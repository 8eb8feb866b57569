"""How the test of a cause is reported."""
from __future__ import annotations

import dataclasses
from typing import List, Optional

import numpy as np

FOUND, RULED_OUT, NOT_TESTED = "found", "ruled out", "not tested"
REPRODUCED = 0.25  # a change that leaves less than this of the difference has made it; rounding leaves far less


@dataclasses.dataclass
class Finding:
    """One cause held against the data. `unexplained` is |changed a - b| / |a - b|: 0 when the cause accounts for all of
    the difference, 1 when for nothing; None where nothing was computed."""

    cause: str
    status: str
    evidence: str
    unexplained: Optional[float] = None

    @property
    def title(self) -> str:
        from comparison.causes import CAUSES, features

        return CAUSES[self.cause].TITLE if self.cause in CAUSES else features.TITLES[self.cause]


def remainder(changed: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """|changed - b| / |a - b|, over all values; 1 where a and b do not differ, so that there is nothing to explain."""
    before = np.linalg.norm((a - b).astype(np.float64))
    return float(np.linalg.norm((changed - b).astype(np.float64)) / before) if before else 1.0


def judge_trial(cause: str, change: str, unexplained: float, limit: float = REPRODUCED) -> Finding:
    """What a change of one side's data leaves of the difference, as a finding."""
    status = FOUND if unexplained < limit else RULED_OUT
    return Finding(cause, status, f"{change} leaves {100 * unexplained:.3g} % of the difference", unexplained)


def name_rows(rows: np.ndarray, most: int = 8) -> str:
    shown = ", ".join(str(row) for row in rows[:most].tolist())
    return f"rows {shown}" + (f", ... ({len(rows)} in all)" if len(rows) > most else "")


def best_of(findings: List[Finding]) -> Finding:
    """That of the strongest status which leaves least of the difference."""
    rank = [FOUND, RULED_OUT, NOT_TESTED]
    return min(findings, key=lambda one: (rank.index(one.status),
                                          np.inf if one.unexplained is None else one.unexplained))
