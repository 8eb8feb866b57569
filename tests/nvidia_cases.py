"""What the tests of the emulated NVIDIA machine share: a program on it."""
from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from conftest import patch_heatmaps
from tensorrt_cases import build

from tests.tensorrt_emulator import emulated

HEATMAP_BYTES, CROP_BYTES = 4 * 17 * 16 * 12, 4 * 3 * 64 * 48


class Gpu:
    """A program on the emulated machine: calls that must succeed, pinned arrays, an engine of up to 8 crops."""

    def __init__(self, machine: Any, model: Path, sizes=((1, 4, 8),)):
        import tensorrt
        from cuda.bindings import runtime

        self.machine, self.trt, self.cuda = machine, tensorrt, runtime
        self.messages: list = []
        logger = type("Log", (tensorrt.ILogger,), {"log": lambda _, severity, text: self.messages.append(text)})()
        self.runtime = tensorrt.Runtime(logger)
        self.engine = self.runtime.deserialize_cuda_engine(build(tensorrt, model, sizes))
        self.context = self.engine.create_execution_context()
        self.stream = self.call("cudaStreamCreateWithFlags", 1)
        self.input, self.output = self.call("cudaMalloc", 8 * CROP_BYTES), self.call("cudaMalloc", 8 * HEATMAP_BYTES)
        self.crops = self.pinned(8, 3, 64, 48)
        self.heatmaps = self.pinned(8, 17, 16, 12)
        self.crops[:] = np.random.default_rng(0).standard_normal(self.crops.shape)

    def call(self, name: str, *arguments: Any) -> Any:
        code, *values = getattr(self.cuda, name)(*arguments)
        assert code == 0, f"{name}: {code!r}"
        return values[0] if len(values) == 1 else values

    def code(self, name: str, *arguments: Any) -> int:
        return int(getattr(self.cuda, name)(*arguments)[0])

    def pinned(self, *shape: int) -> np.ndarray:
        size = 4 * int(np.prod(shape))
        memory = (ctypes.c_uint8 * size).from_address(self.call("cudaHostAlloc", size, 0))
        return np.frombuffer(memory, np.float32).reshape(shape)

    def set_up(self, rows: int = 8) -> None:
        assert self.context.set_input_shape("image", (rows, 3, 64, 48)) and self.context.infer_shapes() == []
        assert self.context.set_tensor_address("image", self.input)
        assert self.context.set_tensor_address("output", self.output)

    def copy_in(self, stream: Any, array: Any = None) -> None:
        source = self.crops if array is None else array
        self.call("cudaMemcpyAsync", self.input, source.ctypes.data, source.nbytes,
                  self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def copy_out(self, stream: Any, array: Any = None) -> None:
        target = self.heatmaps if array is None else array
        self.call("cudaMemcpyAsync", target.ctypes.data, self.output, target.nbytes,
                  self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def execute(self, stream: Any = None) -> bool:
        return self.context.execute_async_v3(int(stream or self.stream))

    def right(self) -> bool:
        return bool(np.allclose(self.heatmaps, patch_heatmaps(self.crops), atol=1e-5))


@contextlib.contextmanager
def program(model: Path, sizes=((1, 4, 8),), **config: Any) -> Iterator[Gpu]:
    with emulated(**config) as machine:
        yield Gpu(machine, model, sizes)
