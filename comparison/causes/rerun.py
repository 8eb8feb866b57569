"""The model run again on the CPU, on the crops of the reference as they are and as a fault would have left them."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

import numpy as np

from backends.rooms import open_model
from comparison.finding import REPRODUCED, Finding, judge_trial, remainder
from contract.backend import Backend, infer_rows
from contract.bins import BinReader
from contract.pixels import FLOAT32, UINT8
from contract.spec import Tensors
from pose.crops import Normalizer, mirror
from pose.photos import Photos, open_photos
from pose.spec import PoseSpec

BATCH = 16  # of a model that takes any

Change = Callable[[np.ndarray], np.ndarray]
Made = Dict[Tuple[str, str], np.ndarray]  # cause and what was done -> heatmaps of the wrong side, if that is its fault


@dataclasses.dataclass
class Rerun:
    """A model and the bins of the reference, and where they are known the photos that these are of. `made` is what the
    model made of the people who were run last, for the next result that is compared and for pairs of causes; `made_bgr`
    what it made of them as B, G, R, by how they were normalised."""

    model: Path
    backend: Backend
    bins: BinReader
    photos: Optional[Photos] = None
    made: Made = dataclasses.field(default_factory=dict)
    made_bgr: Dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    made_of: Tuple[bytes, bool] = (b"", False)

    def crops(self, rows: np.ndarray) -> np.ndarray:
        """The network's input, (rows, 3, H, W) float32."""
        batch, spec = max(self.bins.rows), self.bins.spec
        assert not isinstance(spec, Tensors)  # open_rerun gives a whole one
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

    def made_by(self, cause: str, words: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What `make` gives, kept: of the same people it need not be made again."""
        if (cause, words) not in self.rerun.made:
            self.rerun.made[cause, words] = make()
        return self.rerun.made[cause, words]

    def judge(self, cause: str, words: str, make: Callable[[], np.ndarray]) -> Finding:
        """What is left of the difference with the heatmaps that `make` gives in place of the right ones."""
        return judge_trial(cause, f"{words}, for {self.name},", self.left(self.made_by(cause, words, make)))

    def left(self, heatmaps: np.ndarray) -> float:
        """What is left of the difference with `heatmaps` in place of the right ones."""
        right, wrong = (self.a, self.b) if self.name == "b" else (self.b, self.a)
        return remainder(heatmaps, right, wrong)


def reproduce(rerun: Rerun, rows: np.ndarray, a: np.ndarray, b: np.ndarray, mirrored: bool) -> Reproduction:
    """`a` and `b` are the heatmaps of the people in `rows`, of their mirrored crops if `mirrored`."""
    if rerun.made_of != (rows.tobytes(), mirrored):
        rerun.made_of, rerun.made, rerun.made_bgr = (rows.tobytes(), mirrored), {}, {}
    crops = rerun.crops(rows)
    crops = mirror(crops) if mirrored else crops
    same = rerun.infer(crops)
    return Reproduction(rerun, rows, mirrored, crops, a, b, remainder(same, b, a), remainder(same, a, b))
