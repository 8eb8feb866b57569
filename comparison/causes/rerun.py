"""The model run again on the CPU, on the crops of the reference as they are and as a fault would have left them."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from backends.rooms import open_model
from comparison.causes.finding import REPRODUCED, remainder
from contract.backend import Backend, infer_rows
from contract.bins import BinReader
from contract.pixels import FLOAT32, UINT8
from pose.annotations import open_photos
from pose.crops import Normalizer, mirror
from pose.photos import Photos
from pose.spec import PoseSpec

BATCH = 16  # of a model that takes any
PEOPLE = 4  # who are run again; a fault that is there reproduces them to rounding

Change = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass
class Rerun:
    """A model and the bins of the reference, and where they are known the photos that these are of."""

    model: Path
    backend: Backend
    bins: BinReader
    photos: Optional[Photos] = None

    def crops(self, rows: np.ndarray) -> np.ndarray:
        """The network's input, (rows, 3, H, W) float32."""
        batch, spec = max(self.bins.rows), self.bins.spec
        crops = [self.bins.read(range(row // batch, row // batch + 1))[row % batch] for row in rows.tolist()]
        return np.stack(list(map(Normalizer(spec.mean, spec.std), crops)) if spec.dtype == UINT8 else crops)

    def infer(self, crops: np.ndarray) -> np.ndarray:
        """(n, 3, H, W) -> (n, K, h, w)."""
        return infer_rows(self.backend, crops.astype(np.float32), self.backend.input_shape[0] or BATCH)


def open_rerun(model: str, folder: Path, spec: PoseSpec, dataroot: Optional[Path] = None) -> Rerun:
    """The model takes float32, whatever the bins hold. Raises UserError when model or bins do not fit `spec`."""
    bins = BinReader(folder, spec)
    backend = open_model("onnxruntime", model, dataclasses.replace(spec, dtype=FLOAT32))
    return Rerun(Path(model), backend, bins, open_photos(dataroot) if dataroot else None)


@dataclasses.dataclass
class Reproduction:
    """What the model makes of the `crops` of the people in `rows`, mirrored or not, whose heatmaps are `a` and `b`.

    `left_a` and `left_b`: what of the difference lies between that and a's, and b's. The result that it reproduces is
    right.
    """

    rerun: Rerun
    rows: np.ndarray
    mirrored: bool
    crops: np.ndarray
    a: np.ndarray
    b: np.ndarray
    left_a: float
    left_b: float

    @property
    def neither(self) -> str:
        """Why nothing can be told, or nothing."""
        if min(self.left_a, self.left_b) < REPRODUCED:
            return ""
        return (f"--model with --input gives neither: {100 * self.left_a:.3g} % of the difference from a, "
                f"{100 * self.left_b:.3g} % from b. Are they those of the reference?")

    @property
    def name(self) -> str:
        """Of the result that is wrong."""
        return "b" if self.left_a <= self.left_b else "a"

    def left_by(self, change: Change) -> float:
        """What is left of the difference when the model runs on changed crops."""
        return self.left(self.rerun.infer(change(self.crops)))

    def left(self, heatmaps: np.ndarray) -> float:
        """What is left of the difference with `heatmaps` in place of the right ones."""
        right, wrong = (self.a, self.b) if self.name == "b" else (self.b, self.a)
        return remainder(heatmaps, right, wrong)


def reproduce(rerun: Rerun, rows: np.ndarray, a: np.ndarray, b: np.ndarray, mirrored: bool) -> Reproduction:
    """`a` and `b` are the heatmaps of the people in `rows`, of their mirrored crops if `mirrored`."""
    few = slice(None, None, -(-len(rows) // PEOPLE))
    crops, a, b = rerun.crops(rows[few]), a[few], b[few]
    crops = mirror(crops) if mirrored else crops
    same = rerun.infer(crops)
    return Reproduction(rerun, rows[few], mirrored, crops, a, b, remainder(same, b, a), remainder(same, a, b))
