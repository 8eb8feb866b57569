"""A limit: the bound that a level's measurement is compared with."""
from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Optional

LEAST, MOST = ">=", "<="


def no_excuse(measured: Any) -> str:
    return ""


@dataclasses.dataclass(frozen=True)
class Limit:
    """`value` reads what the level measured, None where that is missing; `bounds` are by gate, and a gate without one
    does not hold it. `excuse` says why a limit that is not kept is no difference, or nothing."""

    sense: str
    meaning: str
    value: Callable[[Any], Optional[float]]
    bounds: Dict[str, float]
    excuse: Callable[[Any], str] = no_excuse

    def keeps(self, value: float, bound: float) -> bool:
        return value >= bound if self.sense == LEAST else value <= bound


@dataclasses.dataclass
class Verdict:
    """One limit, compared with what was measured."""

    limit: str
    level: str
    value: float
    sense: str
    bound: float
    kept: bool
    note: str
    meaning: str

    @property
    def answer(self) -> str:
        return ("yes" if self.kept else "NO") + (f", {self.note}" if self.note else "")


def number(value: float) -> str:
    """Short, and yet telling 0.9999 from 0.99999."""
    return f"{value:.7g}" if 0.9 < abs(value) < 1 else f"{value:.4g}"
