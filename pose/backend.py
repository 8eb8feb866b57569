"""What a backend is, and how one is opened by name.

A backend turns crops into heatmaps on one kind of device. Its room is a folder of its own with a `backend.py`, which is
imported when it is asked for and not before, so that no machine needs the packages of another.
"""
from __future__ import annotations

import importlib
from typing import Any, Optional, Protocol, Tuple

import numpy as np

from pose.config import PoseConfig
from pose.errors import UserError
from pose.files import PathLike

ROOMS = {"acl": "ascend.backend", "onnxruntime": "ort.backend", "pytorch": "pytorch.backend",
         "tensorrt": "trt.backend"}


class Backend(Protocol):
    """A loaded model. Shapes are as the model file states them, batch first; a batch of None takes any number.

    `infer` takes contiguous or strided float32 rows of `input_shape`, exactly the batch where there is one, and
    returns float32 rows of `output_shape` that are the caller's to keep. A room may have more: `slots`, the threads
    that may call `infer` at once and gain by it, and `times`, the milliseconds that each batch took on the device
    alone.
    """

    input_shape: Tuple[Optional[int], ...]
    output_shape: Tuple[Optional[int], ...]

    def infer(self, rows: np.ndarray) -> np.ndarray: ...

    def describe(self) -> dict:
        """What decides its numbers: device, precision, versions."""

    def close(self) -> None: ...


def open_backend(name: str, model: PathLike, device: Optional[str] = None, config: Any = None) -> Backend:
    """Load `model` in the room called `name`. `device` None is the room's own default; `config` describes the network
    to rooms whose model files do not."""
    try:
        room = importlib.import_module(ROOMS[name])
    except ModuleNotFoundError as error:
        raise UserError(f"--backend {name} needs the Python package {error.name}, which is not installed. "
                        f"Install it, or choose another of {', '.join(ROOMS)}") from None
    return room.Backend(model, device=device, config=config)


def open_pose_backend(name: str, model: PathLike, config: PoseConfig, device: Optional[str] = None) -> Backend:
    """As `open_backend`, for a pose model: refuses one whose shapes are not those of `config`."""
    backend = open_backend(name, model, device, config)
    for what, shape, expected in (("input", backend.input_shape, config.input_shape),
                                  ("output", backend.output_shape, config.heatmap_shape)):
        if tuple(shape[1:]) != expected:
            backend.close()
            raise UserError(f"{model}: its {what} is {format_shape(shape)}, but the config says "
                            f"{format_shape((None, *expected))}. Is the --cfg that of this model?")
    return backend


def format_shape(shape: Tuple[Optional[int], ...]) -> str:
    return " x ".join("N" if size is None else str(size) for size in shape)


def infer_rows(backend: Backend, rows: np.ndarray, batch: int) -> np.ndarray:
    """Any number of rows through `backend`, `batch` at a time; a short last batch is padded where the model needs it.

    The padding repeats a row, as ais_bench does, and is not returned.
    """
    outputs = []
    for start in range(0, len(rows), batch):
        part = rows[start:start + batch]
        missing = batch - len(part) if backend.input_shape[0] is not None else 0
        padded = np.concatenate([part, np.repeat(part[:1], missing, axis=0)]) if missing else part
        outputs.append(backend.infer(padded)[:len(part)])
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
