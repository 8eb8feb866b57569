"""Re-identification features of people, with which a tracker recognises them when they come back."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Mapping, Optional

import numpy as np

from backends.rooms import backend_of, open_model
from contract.files import PathLike
from pose.poses import People
from prediction.networks import fixed_batches
from reid.crops import RESIZES, region, to_row
from reid.ranking import normalise
from reid.spec import load_spec

BATCH = 4  # people at once, of a model that takes any


class Looks:
    """A network's features of people. It is opened, run and closed in a thread of its own."""

    def __init__(self, cfg: PathLike, model: PathLike, device: Optional[str] = None,
                 options: Optional[Mapping[str, Any]] = None):
        """Raises UserError for a model that is not there or not of this config."""
        self.spec, self.thread = load_spec(cfg), ThreadPoolExecutor(1)
        self.backend: Any = self.thread.submit(open_model, backend_of(model), model, self.spec, device,
                                               **(options or {})).result()
        self.batch = self.backend.input_shape[0] or BATCH

    def __call__(self, image: np.ndarray, people: People) -> np.ndarray:
        """(H, W, 3) uint8 RGB, its N people -> (N, D) float32 features of length 1."""
        spec, resize = self.spec, RESIZES[self.spec.geometry]
        rows = [to_row(resize(region(image, box), spec.input_size), spec.dtype, spec.mean, spec.std)
                for box in people.boxes_xywh]
        return normalise(self.thread.submit(fixed_batches, self.backend, np.stack(rows), self.batch).result())

    def close(self) -> None:
        self.thread.submit(self.backend.close).result()
        self.thread.shutdown()
