"""ONNX graphs in memory, run by ONNX Runtime on the CPU."""
from __future__ import annotations

import time
from typing import Any, List, Optional, Sequence

import numpy as np
import onnxruntime
from onnx import ModelProto

from contract.backend import pad_rows
from contract.errors import UserError
from contract.files import PathLike

TIMED_RUNS = 20  # the least time is the one without other programs in it


def open_session(content: bytes, path: PathLike, profile: Optional[str] = None) -> Any:
    """`content` is a serialized model; `path` names it in errors; `profile`: prefix of a file of times per node."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise UserError(f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: "
                        f"{' '.join(str(error).split())}") from None


def batch_of(session: Any) -> Optional[int]:
    """How many rows the network takes at once; None for any number."""
    size = session.get_inputs()[0].shape[0]
    return size if isinstance(size, int) and size > 0 else None


def open_batch(model: ModelProto) -> int:
    """How many rows to hand to a network at once: its batch, or 1 of one that takes any."""
    weights = {weight.name for weight in model.graph.initializer}
    shape = next(value for value in model.graph.input if value.name not in weights).type.tensor_type.shape
    return shape.dim[0].dim_value or 1


def run(session: Any, tensors: Sequence[str], rows: np.ndarray, path: PathLike) -> List[np.ndarray]:
    """(n, ...) rows, at most the batch -> (n, ...) values of each of `tensors`; a short batch is filled up."""
    padded = pad_rows(rows, batch_of(session) or 0)
    try:
        values = session.run(list(tensors), {session.get_inputs()[0].name: padded})
    except Exception as error:
        raise UserError(f"{path}: ONNX Runtime {onnxruntime.__version__} cannot run it on rows of "
                        f"{rows.shape[1:]} {rows.dtype}: {' '.join(str(error).split())}") from None
    return [value[:len(rows)] for value in values]


class Network:
    """A serialized model whose one output is wanted."""

    def __init__(self, content: bytes, path: PathLike):
        self.session, self.path = open_session(content, path), path
        self.output = self.session.get_outputs()[0].name

    def infer(self, rows: np.ndarray) -> np.ndarray:
        """Any number of rows (n, ...) -> their outputs, float32."""
        at_once = batch_of(self.session) or len(rows)
        return np.concatenate([run(self.session, [self.output], rows[start:start + at_once], self.path)[0]
                               for start in range(0, len(rows), at_once)])


def least_ms(content: bytes, rows: np.ndarray, path: PathLike) -> float:
    """Milliseconds per crop of a serialized model, alone in ONNX Runtime."""
    session, times = open_session(content, path), []
    at_once = rows[:batch_of(session) or 1]
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        run(session, [session.get_outputs()[0].name], at_once, path)
        times.append(1000 * (time.perf_counter() - started) / len(at_once))
    return min(times)
