"""How the test of a cause is reported."""
from __future__ import annotations

import dataclasses
from typing import List, Optional

import numpy as np

FOUND, CONSISTENT, RULED_OUT, NOT_TESTED = STATUSES = ("found", "consistent with", "ruled out", "not tested")
NONE_EXPLAINS = "none of the causes tried explains the difference"
REPRODUCED = 0.03  # a cause is found when applying it leaves less than this of the difference; rounding leaves far less
PARTLY = 0.5  # it is consistent with the difference when it leaves less than this; unrelated changes leave 0.8 and more


@dataclasses.dataclass
class Finding:
    """One cause tried on the data. `unexplained` is |changed a - b| / |a - b|: 0 when the cause accounts for all of
    the difference, 1 when for nothing; None where nothing was computed. `tied` with others that account for as much."""

    cause: str
    status: str
    evidence: str
    unexplained: Optional[float] = None
    tied: bool = False

    @property
    def title(self) -> str:
        from comparison.causes import CAUSES, features

        return CAUSES[self.cause].TITLE if self.cause in CAUSES else features.TITLES[self.cause]


class Gap:
    """The difference of a and b, of any shape, of which causes leave a part.

    Where b varies less than it differs from a, what is left is compared with b's variation: what is near a small b need
    not be like it.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray):
        self.b = b
        self.before = min(length(a - b), length(b - b.mean(dtype=np.float64)))

    def left(self, changed: np.ndarray) -> float:
        """|changed - b| / |a - b|; 1 where a and b do not differ, so that there is nothing to explain, and where the
        change gives what is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            left = length(changed - self.b)
        return left / self.before if self.before and np.isfinite(left) else 1.0


def length(values: np.ndarray) -> float:
    """The Euclidean norm, by this thread alone: BLAS would wait for others at each of thousands of trials."""
    flat = values.ravel()
    return float(np.sqrt(np.einsum("i,i->", flat, flat)))


def remainder(changed: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    return Gap(a, b).left(changed)


def judge_trial(cause: str, change: str, unexplained: float) -> Finding:
    """What a change of one side's data leaves of the difference, as a finding."""
    status = FOUND if unexplained < REPRODUCED else CONSISTENT if unexplained < PARTLY else RULED_OUT
    return Finding(cause, status, f"{change} leaves {100 * unexplained:.3g} % of the difference", unexplained)


def name_rows(rows: np.ndarray, most: int = 8) -> str:
    shown = ", ".join(str(row) for row in rows[:most].tolist())
    return f"rows {shown}" + (f", ... ({len(rows)} in all)" if len(rows) > most else "")


def best_of(findings: List[Finding]) -> Finding:
    """That of the strongest status which leaves least of the difference."""
    return min(findings, key=lambda one: (STATUSES.index(one.status),
                                          np.inf if one.unexplained is None else one.unexplained))
