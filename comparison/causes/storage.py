"""Fewer bits of what is stored: results that were right before they were written."""
from __future__ import annotations

from typing import Dict, List, NamedTuple

import numpy as np

from comparison.causes.case import Case
from comparison.causes.rerun import Change
from comparison.finding import Finding, best_of, judge_trial, remainder

TITLE = "stored with fewer bits: float16, bfloat16, TF32, 8 bits and fewer, or whole pixels"
SHARED = 4  # elements, at least, to each value of a grid on average
GRID_LEAST, GRID_MOST = 3, 257  # values of a heatmap, or of all, that show a grid of 8 bits or fewer


def to_float16(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def keep_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 rounded to nearest, ties to even, to so many bits of mantissa: TF32 has 10, bfloat16 7, float8 3 or 2."""
    dropped = 23 - bits
    raw = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = (raw >> np.uint32(dropped) & np.uint32(1)) + np.uint32((1 << (dropped - 1)) - 1)
    return (raw + half & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)).view(np.float32)


ROUNDINGS: Dict[str, Change] = {"float16": to_float16, **{
    name: lambda values, bits=bits: keep_bits(values, bits)
    for name, bits in (("TF32", 10), ("bfloat16", 7), ("float8 E4M3", 3), ("float8 E5M2", 2))}}


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        a, b = (joints.astype(np.float64) for joints in case.joints)
        return best_of([judge_trial("storage", f"{words} keypoints to whole pixels in {side}", remainder(
            change(right), right, wrong)) for words, change in (("rounding", np.rint), ("truncating", np.floor))
            for side, right, wrong in (("b", a, b), ("a", b, a))])
    a, b = case.heatmaps
    stored = {f"storing {name}": rounding for name, rounding in ROUNDINGS.items()}
    return best_of([*case.heatmap_trials("storage", stored), *grids("b", a, b), *grids("a", b, a)])


class Grid(NamedTuple):
    """`levels` that each of the `rows`, into which `group` parts heatmaps, holds; `words` for these rows."""

    words: str
    group: Change
    rows: np.ndarray
    levels: List[np.ndarray]


# (n, K, h, w) -> what has a range of its own, (rows, values)
PARTS: Dict[str, Change] = {"all heatmaps": lambda maps: maps.reshape(1, -1),
                            "each person's heatmaps": lambda maps: maps.reshape(len(maps), -1),
                            "each joint's heatmaps": lambda maps: maps.swapaxes(0, 1).reshape(maps.shape[1], -1),
                            "each heatmap": lambda maps: maps.reshape(-1, maps[0, 0].size)}


def find_grids(wrong: np.ndarray) -> List[Grid]:
    """The few values that `wrong`, (n, K, h, w), holds in all or in each part of it, the largest parts first."""
    found = []
    for words, group in PARTS.items():
        rows = group(wrong)
        levels = [np.unique(row) for row in rows]
        if max(map(len, levels)) <= GRID_MOST and np.median([len(one) for one in levels]) >= GRID_LEAST and is_shared(
                rows, levels):
            found.append(Grid(words, group, rows, levels))
    return found


def grids(side: str, right: np.ndarray, wrong: np.ndarray) -> List[Finding]:
    """Whether `wrong` holds few values, in all or in parts, and those nearest to or below the right ones."""
    return [judge_trial("storage", f"{grid.words} of {side} hold at most {max(map(len, grid.levels))} values; {how} "
                        "these", remainder(np.stack([take(row, one) for row, one in zip(same, grid.levels)]), same,
                                           grid.rows))
            for grid in find_grids(wrong) for same in [grid.group(right)]
            for how, take in (("rounding to", nearest), ("truncating to", below))]


def to_grid(heatmaps: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """`heatmaps` rounded to the few values that the smallest parts of `wrong` hold; as they are where it holds many."""
    found = find_grids(wrong)
    if not found:
        return heatmaps
    grid, (n, joints, *plane) = found[-1], heatmaps.shape
    rounded = np.stack([nearest(row, one) for row, one in zip(grid.group(heatmaps), grid.levels)])
    by_joint = grid.words == "each joint's heatmaps"
    return rounded.reshape(joints, n, *plane).swapaxes(0, 1) if by_joint else rounded.reshape(heatmaps.shape)


def is_shared(rows: np.ndarray, levels: List[np.ndarray]) -> bool:
    """Whether each value stands for many, beside the one that most are: of heatmaps cut off at a floor only few values
    are left, each of which is itself."""
    beside = sum(len(row) - np.unique(row, return_counts=True)[1].max() for row in rows)
    return bool(beside >= SHARED * sum(len(one) - 1 for one in levels))


def nearest(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]


def below(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.clip(np.searchsorted(levels, values, side="right") - 1, 0, None)]
