"""ONNX Runtime on the CPU."""
from __future__ import annotations

import os
from typing import Any, Optional, Tuple

import numpy as np
import onnxruntime

from pose.errors import UserError
from pose.files import PathLike

INPUT_TYPES = {"tensor(float)": np.dtype(np.float32), "tensor(uint8)": np.dtype(np.uint8)}


class Backend:
    """An ONNX file with one input; of several outputs, the first. The batch is None where it is symbolic."""

    def __init__(self, model: PathLike, device: Optional[str] = None, config: Any = None):
        if device not in (None, "cpu"):
            raise UserError(f"--device {device}: the onnxruntime backend runs on cpu")
        if not os.path.isfile(model):
            raise UserError(f"{model}: no such model file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors come as exceptions too, and its warnings are not the user's to mend
        try:
            self.session = onnxruntime.InferenceSession(os.fspath(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class
            raise UserError(f"{model}: ONNX Runtime {onnxruntime.__version__} cannot load it: "
                            f"{' '.join(str(error).split())}") from None
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or inputs[0].type not in INPUT_TYPES:
            came = ", ".join(f"{tensor.name} {tensor.type}" for tensor in inputs)
            raise UserError(f"{model}: expected one input of {' or '.join(INPUT_TYPES)}, got {came}")
        self.model, self.input_name, self.output_name = model, inputs[0].name, outputs[0].name
        self.input_dtype = INPUT_TYPES[inputs[0].type]
        self.input_shape, self.output_shape = _shape(inputs[0].shape), _shape(outputs[0].shape)

    def infer(self, rows: np.ndarray) -> np.ndarray:
        try:
            rows = np.ascontiguousarray(rows, self.input_dtype)
            return self.session.run([self.output_name], {self.input_name: rows})[0]
        except Exception as error:  # of the same many kinds: an operator that this release does not take so
            raise UserError(f"{self.model}: ONNX Runtime {onnxruntime.__version__} cannot run it: "
                            f"{' '.join(str(error).split())}") from None

    def describe(self) -> dict:
        return {"device": "cpu", "precision": "float32", "onnxruntime": onnxruntime.__version__}

    def close(self) -> None:
        self.session = None


def _shape(dimensions: list) -> Tuple[Optional[int], ...]:
    """ONNX Runtime gives a symbolic dimension as its name, or None."""
    return tuple(size if isinstance(size, int) and size > 0 else None for size in dimensions)
