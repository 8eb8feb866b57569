"""What may have happened to heatmaps after the model: their layout, joints, place and values.

Axes: n people of a sample, K joints, h w of a heatmap. Each test changes a's heatmaps and sees whether they become b's.
"""
from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import numpy as np

from comparison.causes import FOUND, RULED_OUT, Finding, best_of, judge_trial, remainder
from pose.spec import FLIP_PAIRS

FLOAT16_MOST = float(np.finfo(np.float16).max)  # 65504
CLIPPED = 0.002  # of all joints must share the highest value before it is called a ceiling; chance gives one of them
OFFSET_LEAST = 0.05  # cells; what is below changes no keypoint
OFFSET_REMAINDER = 0.97  # a sub-pixel offset of the crop shifts heatmaps only roughly, so it explains some per cent
OFFSET_PEOPLE = 0.5  # of the people must be displaced the same way; other faults displace a quarter so
SCALE_LEAST = 0.005


def swap_joints(values: np.ndarray) -> np.ndarray:
    """(N, K, ...) with left and right joints exchanged."""
    order = np.arange(values.shape[1])
    for left, right in FLIP_PAIRS:
        order[[left, right]] = right, left
    return values[:, order]


def reread(heatmaps: np.ndarray, axes: Tuple[int, ...]) -> np.ndarray:
    """The bytes of `heatmaps` written with permuted axes, read as if they were not."""
    return np.ascontiguousarray(heatmaps.transpose(axes)).reshape(heatmaps.shape)


def shift_cells(heatmaps: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Shifted by whole cells; the border is repeated."""
    height, width = heatmaps.shape[2:]
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    return heatmaps[:, :, rows[:, None], columns]


CHANGES: Dict[str, Tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "left_right": ("swapping left and right joints", swap_joints),
    "layout": ("writing (h, w, K) where (K, h, w) belongs", lambda heatmaps: reread(heatmaps, (0, 2, 3, 1))),
    "transposed": ("writing (K, w, h) where (K, h, w) belongs", lambda heatmaps: reread(heatmaps, (0, 1, 3, 2))),
}


def explain_outputs(a: np.ndarray, b: np.ndarray, peaks_a: np.ndarray, peaks_b: np.ndarray) -> List[Finding]:
    """(n, K, h, w) heatmaps of wrong people, and the (N, K) peak heights of everybody. Either side may be the one."""
    trials = [[judge_trial(cause, f"{words} in {side}", remainder(change(right), right, wrong))
               for side, right, wrong in (("b", a, b), ("a", b, a))] for cause, (words, change) in CHANGES.items()]
    saturation = [explain_saturation("b", a, b, peaks_a, peaks_b), explain_saturation("a", b, a, peaks_b, peaks_a)]
    found = [trial for trial in saturation if trial.status == FOUND]
    return [*map(best_of, trials), explain_offset(a, b), explain_scale(a, b), *(found or saturation)[:1]]


def explain_offset(a: np.ndarray, b: np.ndarray) -> Finding:
    """Whole cells are tried; a part of a cell is estimated from the slopes of each person's heatmaps."""
    whole = best_of([judge_trial("offset", f"shifting by {dx:+d} columns and {dy:+d} rows",
                                 remainder(shift_cells(a, dx, dy), a, b))
                     for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy])
    if whole.status == FOUND:
        return whole
    shifts, left = displacements(a, b)
    middle = np.median(shifts, axis=0)
    size = float(np.hypot(*middle))
    # The same way: no further from the median than the median is from zero.
    together = float((np.hypot(*(shifts - middle).T) < max(size, 1e-9)).mean())
    text = (f"b lies {middle[0]:+.3f} columns and {middle[1]:+.3f} rows of a heatmap beside a (median), "
            f"{100 * together:.0f} % of the people alike; shifting leaves {100 * left:.3g} % of the difference")
    found = size >= OFFSET_LEAST and left < OFFSET_REMAINDER and together >= OFFSET_PEOPLE
    return Finding("offset", FOUND if found else RULED_OUT, text, left)


def displacements(a: np.ndarray, b: np.ndarray) -> Tuple[np.ndarray, float]:
    """(n, 2) least-squares shifts in x and y that take each person's heatmaps from a to b, and what the median shift
    leaves of the difference. To first order b = a - dx a_x - dy a_y (Lucas and Kanade)."""
    slopes = np.zeros((2, *a.shape))
    slopes[0, ..., 1:-1] = (a[..., 2:] - a[..., :-2]) / 2
    slopes[1, :, :, 1:-1] = (a[:, :, 2:] - a[:, :, :-2]) / 2
    difference = a.astype(np.float64) - b
    normal = np.einsum("inkyx,jnkyx->nij", slopes, slopes)
    right = np.einsum("inkyx,nkyx->ni", slopes, difference)
    shifts = np.stack([np.linalg.lstsq(*person, rcond=None)[0] for person in zip(normal, right)])
    rest = difference - np.einsum("inkyx,i->nkyx", slopes, np.median(shifts, axis=0))
    return shifts, float(np.linalg.norm(rest) / max(np.linalg.norm(difference), 1e-30))


def explain_scale(a: np.ndarray, b: np.ndarray) -> Finding:
    """b = scale a + constant by least squares. What is left is held against b's own variation too: a b of nothing but
    noise is near scale 0."""
    flat_a, flat_b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    variance = flat_a.var()
    scale = float(np.mean((flat_a - flat_a.mean()) * (flat_b - flat_b.mean())) / variance) if variance else 1.0
    constant = float(flat_b.mean() - scale * flat_a.mean())
    fitted = scale * flat_a + constant
    left = max(remainder(fitted, flat_a, flat_b), remainder(fitted, np.full(len(flat_b), flat_b.mean()), flat_b))
    trial = judge_trial("scaled", f"b = {scale:.4g} a {constant:+.4g}", left)
    if abs(scale - 1) < SCALE_LEAST and abs(constant) < SCALE_LEAST * flat_a.std():
        trial.status = RULED_OUT
    return trial


def explain_saturation(side: str, a: np.ndarray, b: np.ndarray, peaks_a: np.ndarray, peaks_b: np.ndarray) -> Finding:
    """A ceiling of b, which is called `side`: one highest value that many joints share, where a goes beyond it."""
    ceiling = float(peaks_b.max())
    at_ceiling, beyond = float((peaks_b == ceiling).mean()), float((peaks_a > ceiling).mean())
    name = "float16's largest value" if ceiling == FLOAT16_MOST else "a ceiling"
    text = (f"{100 * at_ceiling:.2g} % of the peaks of {side} are exactly {ceiling:g}, and {100 * beyond:.2g} % of the "
            "other's are higher")
    if min(at_ceiling, beyond) < CLIPPED:
        return Finding("saturation", RULED_OUT, text)
    return judge_trial("saturation", f"{text}; {name}; clipping there", remainder(np.minimum(a, ceiling), a, b))
