"""ONNX graphs in memory, run by ONNX Runtime on the CPU."""
from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np
import onnxruntime

from contract.backend import pad_rows
from contract.errors import UserError
from contract.files import PathLike


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
