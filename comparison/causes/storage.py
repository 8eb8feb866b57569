"""Fewer bits of what is stored: results that were right before they were written."""
from __future__ import annotations

from typing import Dict, List

import numpy as np

from comparison.causes.case import Case
from comparison.causes.finding import Finding, best_of, judge_trial, remainder
from comparison.causes.rerun import Change

TITLE = "stored with fewer bits: float16, bfloat16, TF32, or 8 bits and fewer"
GRID_LEAST, GRID_MOST = 3, 257  # values of a heatmap, or of all, that show a grid of 8 bits or fewer


def to_float16(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def keep_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 rounded to nearest, ties to even, to so many bits of mantissa: bfloat16 has 7, TF32 10."""
    dropped = 23 - bits
    raw = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = (raw >> np.uint32(dropped) & np.uint32(1)) + np.uint32((1 << (dropped - 1)) - 1)
    return (raw + half & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)).view(np.float32)


ROUNDINGS: Dict[str, Change] = {"float16": to_float16, "bfloat16": lambda values: keep_bits(values, 7),
                                "TF32": lambda values: keep_bits(values, 10)}


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        return case.no_heatmaps("storage", "needs dumps of both: LABEL=DUMPS[,DUMPS_OF_MIRRORED]")
    a, b = case.heatmaps
    stored = {f"storing {name}": rounding for name, rounding in ROUNDINGS.items()}
    return best_of([*case.heatmap_trials("storage", stored), *grids("b", a, b), *grids("a", b, a)])


def grids(side: str, right: np.ndarray, wrong: np.ndarray) -> List[Finding]:
    """Whether `wrong` holds few values, in all or in each heatmap, and those nearest to or below the right ones."""
    maps = wrong.reshape(-1, wrong[0, 0].size)
    groups = {"all heatmaps": wrong.reshape(1, -1), "each person's heatmaps": wrong.reshape(len(wrong), -1),
              "each heatmap": maps}
    for words, rows in groups.items():
        levels = [np.unique(row) for row in rows]
        most = max(map(len, levels))
        if most <= GRID_MOST and np.median([len(one) for one in levels]) >= GRID_LEAST:
            same = right.reshape(rows.shape)
            return [judge_trial("storage", f"{words} of {side} hold at most {most} values; {how} these", remainder(
                np.stack([take(row, one) for row, one in zip(same, levels)]), same, rows))
                for how, take in (("rounding to", nearest), ("truncating to", below))]
    return []


def nearest(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]


def below(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.clip(np.searchsorted(levels, values, side="right") - 1, 0, None)]
