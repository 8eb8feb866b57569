"""Run an ONNX graph on the CPU and read any of its tensors; every operator for itself, as the graph says."""
from __future__ import annotations

from typing import Dict, List, Optional

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto

from contract.errors import UserError
from layers.graphs import serialize_exposing

TYPES = {"tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16,
         "tensor(double)": TensorProto.DOUBLE, "tensor(uint8)": TensorProto.UINT8}
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class Net:
    """A graph of one input with chosen tensors as its outputs. `types` holds the element types of those, and of the
    input, that hold values and not shapes; `batch` is None where it is symbolic."""

    def __init__(self, model: ModelProto, tensors: List[str], name: str):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # every layer is kept, and none is reused
        # Fused layers have no tensors between them, and some fusions of quantised graphs change numbers.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.name, self.tensors = name, list(dict.fromkeys(tensors))
        try:
            self.session = onnxruntime.InferenceSession(serialize_exposing(model, self.tensors), options,
                                                        providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class
            raise self._refused("load", error) from None
        self.input = self.session.get_inputs()[0]
        self.types: Dict[str, int] = {value.name: TYPES[value.type] for value in
                                      [self.input, *self.session.get_outputs()] if value.type in TYPES}
        size = self.input.shape[0]
        self.batch: Optional[int] = size if isinstance(size, int) and size > 0 else None

    def run(self, crops: np.ndarray) -> Dict[str, np.ndarray]:
        """(n, ...) crops, at most the batch -> tensor name -> (n, ...) values as the graph has them."""
        dtype = DTYPES.get(self.input.type)
        if dtype is None or (dtype == np.uint8) != (crops.dtype == np.uint8):
            raise UserError(f"{self.name}: takes {self.input.type}, but the bins are {crops.dtype}")
        missing = self.batch - len(crops) if self.batch else 0
        padded = np.concatenate([crops, np.repeat(crops[:1], missing, axis=0)]) if missing else crops
        try:
            values = self.session.run(self.tensors, {self.input.name: padded.astype(dtype, copy=False)})
        except Exception as error:
            raise self._refused("run", error) from None
        return {name: value[:len(crops)] if missing else value for name, value in zip(self.tensors, values)}

    def _refused(self, verb: str, error: Exception) -> UserError:
        return UserError(f"{self.name}: ONNX Runtime {onnxruntime.__version__} cannot {verb} it: "
                         f"{' '.join(str(error).split())}")
