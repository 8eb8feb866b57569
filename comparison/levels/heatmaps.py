"""The highest cell of each joint's heatmap."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional

import numpy as np

from comparison.levels.tensors import FOLDERS
from comparison.limits import LEAST, Limit
from comparison.page.figures import Figures, bars
from comparison.results import Options, Result
from pose.metrics import heatmap_metrics


@dataclasses.dataclass
class Heatmaps:
    """Of one folder: fraction of joints whose highest cell is the same, over all and of each joint, and the heights."""

    argmax_agreement: float
    argmax_agreement_per_joint: List[float]
    peak_a_mean: float
    peak_b_mean: float
    peak_difference_mean: float
    peak_difference_max: float


LIMITS = {
    "argmax": Limit(LEAST, "fraction of joints whose highest cell is the same",
                    lambda folders: min(folder.argmax_agreement for folder in folders.values()),
                    {"fp32": 0.999, "fp16": 0.97, "int8": 0.85}),
}


def measure(a: Result, b: Result, options: Options) -> Optional[Dict[str, Heatmaps]]:
    if not a.holds_heatmaps or not b.holds_heatmaps:
        return None
    return {name: measure_peaks(*cells_and_peaks) for name, *cells_and_peaks in zip(
        FOLDERS, a.decoded.cells, b.decoded.cells, a.decoded.peaks, b.decoded.peaks)}


def measure_peaks(cells_a: np.ndarray, cells_b: np.ndarray, peaks_a: np.ndarray, peaks_b: np.ndarray) -> Heatmaps:
    """(N, K) highest cells and their values, of both."""
    return Heatmaps(**heatmap_metrics(cells_a, cells_b, peaks_a, peaks_b))


def load(values: Dict[str, Any]) -> Dict[str, Heatmaps]:
    return {name: Heatmaps(**folder) for name, folder in values.items()}


def table(measured: Dict[str, Heatmaps]) -> str:
    """The limits' table says it all."""
    return ""


def section(measured: Dict[str, Heatmaps], a: Result, b: Result, options: Options) -> Figures:
    moved = {name: [100 * (1 - agreement) for agreement in folder.argmax_agreement_per_joint]
             for name, folder in measured.items()}
    return {"Joints": {f"Highest cell is another, % of {name} crops": bars(
        options.spec.skeleton.joints, percent, max(percent), "{:.1f}", "highest cell of each joint")
        for name, percent in moved.items()}}
