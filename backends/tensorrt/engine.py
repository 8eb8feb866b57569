"""A TensorRT engine: what its engine takes and gives, and its execution contexts."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Tuple

import numpy as np

from backends.tensorrt import bindings, engine_record
from contract.errors import UserError
from contract.files import PathLike

if TYPE_CHECKING:
    import tensorrt

INPUT_TYPES = {"FLOAT": np.float32, "UINT8": np.uint8}
OUTPUT_TYPES = {"FLOAT": np.float32, "HALF": np.float16}  # by name: trt.nptype does not know all of any release


class Tensor(NamedTuple):
    """An input or output, at the largest batch."""

    name: str
    shape: Tuple[int, ...]
    dtype: np.dtype

    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def bytes(self) -> int:
        return self.shape[0] * self.row_bytes()


class Engine:
    """An engine with one input, float32 or uint8, and float32 or float16 outputs, for one batch or for a range of them.

    Of several optimization profiles it is the one with the largest batch. Everything here happens on the current GPU
    and in the thread that made it.
    """

    def __init__(self, tensorrt: Any, logger: Any, engine: PathLike, stream: int):
        self.tensorrt, self.logger, self.path, self.stream = tensorrt, logger, os.fspath(engine), stream
        runtime: tensorrt.Runtime = bindings.make_runtime(tensorrt, logger)
        with open(engine, "rb") as file:
            self.engine = runtime.deserialize_cuda_engine(file.read())
        self.runtime = runtime  # the engine must not outlive it
        if self.engine is None:
            raise self.failure(f"cannot load it. An engine serves the TensorRT and the GPU it was built with. Build it "
                               f"here: {engine_record.BUILD}")
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        inputs = [name for name in names if self.engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise UserError(f"{self.path}: expected one input, got {', '.join(inputs) or 'none'}")
        self.profile, self.smallest, largest = self._choose_profile(inputs[0])
        self.input = self._tensor(inputs[0], largest, INPUT_TYPES)
        self.unused: List[tensorrt.IExecutionContext] = []
        self.outputs = self._read_outputs([name for name in names if name != inputs[0]])

    def failure(self, what: str) -> UserError:
        return UserError(f"{self.path}: TensorRT {self.tensorrt.__version__} {what} ({self.logger.text()})")

    def _choose_profile(self, name: str) -> Tuple[int, int, Tuple[int, ...]]:
        """Number of the profile, its smallest batch and its largest shape."""
        shape = tuple(self.engine.get_tensor_shape(name))
        if min(shape[1:], default=-1) < 1:
            raise UserError(f"{self.path}: its input is {shape}, expected sizes that are fixed but for the batch")
        if shape[0] > 0:
            return 0, shape[0], shape
        shapes = [self.engine.get_tensor_profile_shape(name, index)
                  for index in range(self.engine.num_optimization_profiles)]
        index = max(range(len(shapes)), key=lambda index: shapes[index][2][0])
        least, _, most = shapes[index]
        return index, least[0], tuple(most)

    def _tensor(self, name: str, shape: Tuple[int, ...], types: dict) -> Tensor:
        kind = self.engine.get_tensor_dtype(name).name
        if kind not in types or min(shape, default=-1) < 1:
            raise UserError(f"{self.path}: {name} is {shape} of {kind}, expected {' or '.join(types)} of known sizes. "
                            "Convert the ONNX with --keep_io_types, and build it again")
        return Tensor(name, shape, np.dtype(types[kind]))

    def _read_outputs(self, names: List[str]) -> List[Tensor]:
        """Their shapes are only known to a context that was told the input's."""
        context = self.new_context()
        if context is None:
            raise self.failure("gives no execution context. Is the GPU's memory in use (nvidia-smi)?")
        self.set_batch(context, self.input.shape[0])
        self.unused.append(context)
        return [self._tensor(name, tuple(context.get_tensor_shape(name)), OUTPUT_TYPES) for name in names]

    def new_context(self) -> Optional[tensorrt.IExecutionContext]:
        """A context of the profile. None where there is no memory for it, or where, up to TensorRT 9, another context
        has the profile."""
        if self.unused:
            return self.unused.pop()
        context = self.engine.create_execution_context()
        if context is None:
            return None
        if context.active_optimization_profile != self.profile and \
                not context.set_optimization_profile_async(self.profile, self.stream):
            return None
        return context

    def set_batch(self, context: tensorrt.IExecutionContext, rows: int) -> None:
        """Plain integers: one of numpy's is not what every release takes."""
        shape = (int(rows), *map(int, self.input.shape[1:]))
        try:
            refused = not context.set_input_shape(self.input.name, shape) or context.infer_shapes()
        except RuntimeError:  # this is how infer_shapes tells an error; it returns what lacks a shape
            refused = True
        if refused:
            raise self.failure(f"refuses the shape {shape}")
