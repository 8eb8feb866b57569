"""Everything moved by the same amount: cells of heatmaps, pixels of crops, or keypoints."""
from __future__ import annotations

import functools
import math
from typing import Dict, List, Tuple

import numpy as np

from comparison.causes.case import Case
from comparison.causes.rerun import Change
from comparison.causes.resampling import STEPS, estimate
from comparison.finding import FOUND, RULED_OUT, Finding, best_of, judge_trial, remainder

TITLE = "heatmaps or keypoints off by a constant"
CELLS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # moves of a heatmap that are tried, and what its slopes say
MOVED = 8  # people whose heatmaps are moved
PIXELS_LEAST = 0.2  # of the input


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        a, b = case.joints
        return best_of([explain_keypoints(a, b, "photo"),
                        explain_keypoints(a * case.pixels[:, None, None], b * case.pixels[:, None, None], "input")])
    moves: Dict[str, Change] = {f"moving the crop by {dx:+g}, {dy:+g} pixels{words}": functools.partial(
        move_planes, dx=dx, dy=dy, border=border) for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)
        for words, border in (("", "edge"), (" with zeros beyond it", "constant"))}
    by_heatmaps = explain_heatmaps(*case.heatmaps)
    return by_heatmaps if by_heatmaps.status == FOUND else best_of([by_heatmaps, *case.crop_trials("offset", moves)])


def move_planes(values: np.ndarray, dx: float, dy: float, border: str = "edge") -> np.ndarray:
    """(n, C, H, W) moved by parts of a pixel, bilinear, as tools do that disagree whether pixels are points or squares.
    `border` is a mode of np.pad. To a step of OpenCV's, as cv2.warpAffine does it plane by plane."""
    places = [math.floor(-by * STEPS + 0.5) / STEPS for by in (dy, dx)]
    around = [math.ceil(abs(place)) + 1 for place in places]
    padded = np.pad(values, ((0, 0), (0, 0), *((size, size) for size in around)), mode=border)  # type: ignore
    height, width = values.shape[2:]
    moved = np.zeros(values.shape, np.float32)
    for y, of_row in corners(places[0]):
        for x, of_column in corners(places[1]):
            top, left = around[0] + y, around[1] + x
            moved += np.float32(of_row * of_column) * padded[:, :, top:top + height, left:left + width]
    return moved


def corners(place: float) -> List[Tuple[int, float]]:
    """The whole places beside it, and their weights."""
    low = math.floor(place)
    return [(at, weight) for at, weight in ((low, 1 - (place - low)), (low + 1, place - low)) if weight]


def explain_heatmaps(a: np.ndarray, b: np.ndarray) -> Finding:
    """Whole and half cells are tried, and the part of a cell that the slopes of heatmaps say."""
    shifts, left = displacements(a, b)
    estimated = np.median(shifts, axis=0)
    text = (f"b lies {estimated[0]:+.3f} columns and {estimated[1]:+.3f} rows of a heatmap beside a, by the slopes "
            "(median); shifting so")
    trials = [Finding("offset", RULED_OUT, judge_trial("offset", text, left).evidence, left)]
    further = np.round(estimate(a[:MOVED], b[:MOVED])[:2], 2)
    for dx, dy in [(dx, dy) for dx in CELLS for dy in CELLS if dx or dy] + [tuple(further)]:
        trials.append(judge_trial("offset", f"shifting by {dx:+g} columns and {dy:+g} rows",
                                  remainder(move_planes(a[:MOVED], dx, dy), a[:MOVED], b[:MOVED])))
    return best_of(trials)


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


def explain_keypoints(a: np.ndarray, b: np.ndarray, pixels: str) -> Finding:
    """(n, K, 2) each, in `pixels` of the input or of the photo."""
    middle = np.median((b.astype(np.float64) - a).reshape(-1, 2), axis=0)
    text = f"moving keypoints by {middle[0]:+.3f}, {middle[1]:+.3f} {pixels} pixels (median x, y)"
    if np.hypot(*middle) < PIXELS_LEAST:
        return Finding("offset", RULED_OUT, text, 1.0)
    return judge_trial("offset", text, remainder(a + middle, a, b))
