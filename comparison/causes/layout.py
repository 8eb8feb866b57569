"""The same bytes read otherwise: axes, byte order, or from another place on."""
from __future__ import annotations

import itertools
from typing import Callable, Dict

import numpy as np

from comparison.causes.case import Case
from comparison.causes.rerun import Change
from comparison.finding import FOUND, Finding, best_of
from comparison.readings import FLOAT_BYTES, MISREAD, from_byte, reread

TITLE = "bytes read otherwise: axes, byte order, or from another byte on"
AXES = {"K": 1, "h": 2, "w": 3}
ORDERS = [order for order in itertools.permutations(AXES) if order not in (("K", "h", "w"), ("K", "w", "h"))]
COLUMNS = {*range(-4, 5)}  # so few values are a move to the side, but for the ends of rows
HEADERS = (1, 2, 4, 8, 16, 20, 32, 64)  # values that a file may begin with


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """From which value on a person's heatmaps in a are most like those in b: where their correlation is highest. A
    header may be of any length. (K, h, w) each."""
    spectra = [np.fft.rfft(values.ravel() - values.mean()) for values in (a, b)]
    start = int(np.fft.irfft(spectra[0] * np.conj(spectra[1]), a.size).argmax())
    return start if start <= a.size // 2 else start - a.size


def test(case: Case) -> Finding:
    changes: Dict[str, Change] = {f"reading {words}": read for words, read in MISREAD.items()}
    for order in ORDERS:
        axes = tuple(AXES[name] for name in order)
        changes[f"writing ({', '.join(order)}) where (K, h, w) belongs"] = lambda values, axes=axes: reread(
            values, (0, *axes))
    if case.heatmaps is not None:
        a, b = (heatmaps[0] for heatmaps in case.heatmaps)
        for start in {lag(a, b), lag(b, a)} - COLUMNS:
            changes[f"reading from value {start} on"] = lambda values, start=start: from_byte(
                values, FLOAT_BYTES * start)
    by_heatmaps = best_of(case.heatmap_trials("layout", changes))
    if by_heatmaps.status == FOUND:
        return by_heatmaps
    crops: Dict[str, Callable] = {
        "writing (H, W, 3) where (3, H, W) belongs": lambda values: reread(values, (0, 2, 3, 1)),
        "writing (W, H, 3) where (3, H, W) belongs": lambda values: reread(values, (0, 3, 2, 1)),
        **{f"reading the crops from value {start} on": lambda values, start=start: from_byte(
            values, FLOAT_BYTES * start) for start in HEADERS}}
    return best_of([by_heatmaps, *case.crop_trials("layout", crops)])
