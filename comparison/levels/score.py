"""The ten COCO numbers of both results, and how far apart they are beyond chance."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional

from comparison.limits import MOST, Limit
from comparison.page.figures import Figures, html_table, intervals
from comparison.results import Options, Result
from contract.tables import format_table
from pose.bootstrap import coco_numbers, difference_intervals


@dataclasses.dataclass
class Score:
    """By name: the numbers of both, the bootstrap intervals of their differences b - a (None without replicates), and
    the differences."""

    a: Dict[str, float]
    b: Dict[str, float]
    replicates: int
    intervals: Optional[Dict[str, List[float]]]
    differences: Dict[str, float]


def by_chance(score: Score) -> str:
    low, high = score.intervals["AP"] if score.intervals else (1, 1)
    return "not beyond chance: the interval holds 0" if low <= 0 <= high else ""


LIMITS = {
    "ap_change": Limit(MOST, "absolute change of AP beyond chance",
                       lambda score: abs(score.differences["AP"]), {"fp32": 0.001, "fp16": 0.003, "int8": 0.005},
                       by_chance),
}


def measure(a: Result, b: Result, options: Options) -> Optional[Score]:
    if a.matches is None or b.matches is None:
        return None
    numbers_a, numbers_b = coco_numbers(a.matches), coco_numbers(b.matches)
    between: Optional[Dict[str, List[float]]] = None
    if options.replicates:
        between = difference_intervals(a.matches, b.matches, options.replicates, options.seed, options.workers)
    return Score(numbers_a, numbers_b, options.replicates, between,
                 {name: numbers_b[name] - value for name, value in numbers_a.items()})


def load(values: Dict[str, Any]) -> Score:
    return Score(**values)


def cells(measured: Score) -> List[List[str]]:
    between = measured.intervals or {}
    return [[name, f"{measured.a[name]:.4f}", f"{measured.b[name]:.4f}", f"{difference:+.4f}",
             "{:+.4f} .. {:+.4f}".format(*between[name]) if between else "-"]
            for name, difference in measured.differences.items()]


def table(measured: Score) -> str:
    return format_table(["score", "a", "b", "b - a", "95 % interval"], cells(measured))


def section(measured: Score, a: Result, b: Result, options: Options) -> Figures:
    between = measured.intervals or {}
    figure = intervals({name: (difference, between.get(name)) for name, difference in measured.differences.items()},
                       "differences of the COCO numbers with their intervals")
    return {"COCO score": {"": html_table(["number", a.label, b.label, "difference", "95 % interval"], cells(measured),
                                          (a.label, b.label)),
                           f"Differences and intervals, {measured.replicates} replicates over photos": figure}}
