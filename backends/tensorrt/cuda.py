"""CUDA's runtime through cuda-python: checked calls, and the gate that comes before any object of TensorRT.

On a machine without CUDA a TensorRT runtime can be made and ends the process when it is used, so `open_device` is
called first.
"""
from __future__ import annotations

import importlib
import re
import sys
from typing import Any, NamedTuple, Optional

import numpy as np

from contract.errors import UserError

MODULES = ("cuda.bindings.runtime", "cuda.cudart")  # its name since 12.8, and its name up to 12.9
ADVICE = {"cudaErrorInsufficientDriver": "Is NVIDIA's driver installed, and new enough for this CUDA? nvidia-smi says "
                                         "up to which CUDA it serves",
          "cudaErrorNoDevice": "Does nvidia-smi list a GPU, and CUDA_VISIBLE_DEVICES name it?",
          "cudaErrorMemoryAllocation": "Choose a smaller batch, or end what else uses the GPU (nvidia-smi)",
          "cudaErrorIllegalAddress": "The GPU is lost to this process: run the same command again"}


def runtime() -> Any:
    """The runtime module of cuda-python. Raises UserError when it cannot be imported."""
    loaded = next(filter(None, map(sys.modules.get, MODULES)), None)
    if loaded is not None:
        return loaded
    reasons = []
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reasons.append(str(error))
    raise UserError(f"TensorRT needs the Python package cuda-python, which cannot be imported "
                    f"({'; '.join(reasons)}). Install it: pip install cuda-python, of the CUDA that the driver serves")


def call(name: str, *arguments: Any) -> Any:
    """What CUDA's function `name` ("cudaMalloc") returns, without the code. Raises UserError when that is not 0."""
    error, *values = getattr(runtime(), name)(*arguments)
    if int(error):
        runtime().cudaGetLastError()  # forgets it, or who asks next takes it for an error of its own
        advice = ADVICE.get(error.name)
        raise UserError(f"{name} failed with {error.name} ({int(error)})" + (f". {advice}" if advice else ""))
    return values[0] if len(values) == 1 else tuple(values)


def parse_device(device: Optional[str]) -> int:
    """0, 1, cuda or cuda:1 -> the number of the GPU."""
    match = re.fullmatch(r"cuda|(?:cuda:)?(\d+)", str(device or 0))
    if not match:
        raise UserError(f"--device {device}: the tensorrt backend takes the number of a GPU, such as 0 or cuda:0")
    return int(match.group(1) or 0)


def open_device(number: int) -> None:
    """Make this GPU the current one of this thread. Raises UserError if it, or CUDA, is not available."""
    try:
        count = call("cudaGetDeviceCount")
    except RuntimeError as error:  # cuda-python 12.2 raises this where there is no driver
        raise UserError(f"CUDA cannot be used: {error}. {ADVICE['cudaErrorInsufficientDriver']}") from None
    if number >= count:
        raise UserError(f"--device {number}: this machine has {count} GPUs, counted from 0")
    call("cudaSetDevice", number)


class Gpu(NamedTuple):
    name: str
    compute_capability: str


def describe_gpu(number: int) -> Gpu:
    properties = call("cudaGetDeviceProperties", number)
    return Gpu(properties.name.decode().rstrip("\0"), f"{properties.major}.{properties.minor}")


def version(which: str) -> str:
    """Of CUDA, as the "Driver" serves it, or as the "Runtime" here is."""
    number = call(f"cuda{which}GetVersion")
    return f"{number // 1000}.{number % 1000 // 10}"


def malloc(size: int) -> int:
    """Address of `size` bytes of device memory."""
    return call("cudaMalloc", size)


def free(address: int) -> None:
    call("cudaFree", address)


def copy(address: int, array: np.ndarray) -> None:
    """A contiguous array to device memory; returns when it is there."""
    assert array.flags.c_contiguous, "CUDA copies bytes as they lie"
    call("cudaMemcpy", address, array.ctypes.data, array.nbytes, runtime().cudaMemcpyKind.cudaMemcpyHostToDevice)
