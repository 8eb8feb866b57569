"""What may have happened to the crops before the model: changed bins are run through it on the CPU.

Axes: n people of a sample, (n, 3, H, W) crops as the bins hold them, (n, K, h, w) heatmaps.
"""
from __future__ import annotations

import functools
from typing import Callable, Dict, List, Optional, Tuple

import cv2
import numpy as np

from comparison.causes import (
    FOUND,
    NOT_TESTED,
    REPRODUCED,
    RULED_OUT,
    Finding,
    judge_trial,
    remainder,
)
from comparison.outputs import reread
from contract.backend import Backend, infer_rows
from pose.spec import PoseSpec

INPUT_CAUSES = ("bgr", "normalisation", "uint8", "layout", "weights")
BATCH = 16  # of a model that takes any


def changed_inputs(crops: np.ndarray, config: PoseSpec) -> Dict[str, Tuple[str, Callable[[], np.ndarray]]]:
    """What went wrong -> its cause, and the crops as they would then be."""
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (config.mean, config.std))
    colours = crops * std + mean  # 0..1
    return {
        "reading the photograph as B, G, R": ("bgr", lambda: (colours[:, ::-1] - mean) / std),
        "exchanging R and B of the normalised crop": ("bgr", lambda: crops[:, ::-1]),
        "leaving out the normalisation (values 0..1)": ("normalisation", lambda: colours),
        "normalising twice": ("normalisation", lambda: (crops - mean) / std),
        "values 0..255": ("uint8", lambda: colours * 255),
        "normalising without dividing by 255": ("uint8", lambda: (colours * 255 - mean) / std),
        "writing (H, W, 3) where (3, H, W) belongs": ("layout", lambda: reread(crops, (0, 2, 3, 1))),
    }


def moved_inputs(crops: np.ndarray) -> Dict[str, Tuple[str, Callable[[], np.ndarray]]]:
    """The crops moved by half a pixel each way, as tools do that disagree whether pixels are points or squares."""

    def move(dx: float, dy: float) -> np.ndarray:
        matrix, size = np.array([[1, 0, dx], [0, 1, dy]]), crops.shape[:1:-1]
        return np.stack([[cv2.warpAffine(plane, matrix, size, borderMode=cv2.BORDER_REPLICATE) for plane in crop]
                         for crop in crops])

    return {f"moving the crop by {dx:+g}, {dy:+g} pixels": ("offset", functools.partial(move, dx, dy))
            for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)}


def explain_inputs(backend: Backend, crops: np.ndarray, a: np.ndarray, b: np.ndarray,
                   config: PoseSpec) -> List[Finding]:
    """`crops` are those of the people whose heatmaps `a` and `b` are. The side that the model reproduces is right."""

    def infer(rows: np.ndarray) -> np.ndarray:
        return infer_rows(backend, rows.astype(np.float32), backend.input_shape[0] or BATCH)

    same = infer(crops)
    left_a, left_b = remainder(same, b, a), remainder(same, a, b)
    if min(left_a, left_b) >= REPRODUCED:
        text = (f"--model with --input gives neither: {100 * left_a:.3g} % of the difference from a, "
                f"{100 * left_b:.3g} % from b. Are they those of the reference?")
        return [Finding(cause, NOT_TESTED, text) for cause in INPUT_CAUSES]
    right, wrong, name = (a, b, "b") if left_a <= left_b else (b, a, "a")

    def try_all(changes: Dict[str, Tuple[str, Callable[[], np.ndarray]]]) -> List[Finding]:
        return [judge_trial(cause, f"{words}, for {name},", remainder(infer(change()), right, wrong))
                for words, (cause, change) in changes.items()]

    trials = try_all(changed_inputs(crops, config))
    if not any(trial.status == FOUND for trial in trials):
        trials += try_all(moved_inputs(crops))
    found = any(trial.status == FOUND for trial in trials)
    text = (f"the model reproduces {'b' if name == 'a' else 'a'} to {100 * min(left_a, left_b):.2g} % of the "
            f"difference, and {name} by none of the changes tried")
    # Whether it is the weights is decided when everything else has been tried.
    return [*trials, Finding("weights", RULED_OUT if found else FOUND, text, 1.0)]


def without_model(known: Optional[str]) -> List[Finding]:
    """What to say of the same causes when there is no model to run."""
    need = "needs --model FILE.onnx and --input BINS, to run the model with this fault"
    return [Finding(cause, NOT_TESTED, known if cause == "weights" and known else need) for cause in INPUT_CAUSES
            if cause != "layout"]
