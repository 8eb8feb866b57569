"""What may be wrong when two results differ, and how a test of it is reported."""
from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional

import numpy as np

CAUSES: Dict[str, str] = {
    "file_order": "files shifted or permuted",
    "batch_tail": "tail of the last batch duplicated",
    "left_right": "left and right joints not swapped",
    "flip_shift": "flip shift missing or smeared, or no flip test",
    "bgr": "colours in the order B, G, R",
    "normalisation": "normalisation missing or applied twice",
    "uint8": "values 0..255 where normalised floats belong",
    "layout": "NHWC read as NCHW",
    "transposed": "heatmaps transposed",
    "offset": "heatmaps or keypoints off by a constant",
    "saturation": "values saturated, as in float16 or a clipped int8 range",
    "scaled": "scores scaled",
    "weights": "another model: its weights differ",
    "few_people": "only a few people wrong",
}
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
        return CAUSES[self.cause]


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


def best_of(trials: List[Finding]) -> Finding:
    return min(trials, key=lambda trial: np.inf if trial.unexplained is None else trial.unexplained)
