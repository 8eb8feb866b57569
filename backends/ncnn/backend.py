"""ncnn on the CPU.

Its Python package trusts its caller: an array of another dtype or layout, or a file of another model, ends the process
or gives wrong numbers. So arrays are checked here, every return code is read, and a model is first run in a process of
its own (backends/ncnn/trial.py), whose end is an error like any other.
"""
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import ncnn
import numpy as np

from backends.ncnn.model_file import Layer, bin_of, precision_of, read_param
from backends.ncnn.options import ROOM
from backends.ncnn.pair import param_path, read_facts
from contract.errors import UserError
from contract.files import PathLike, sha256_of_file
from contract.room import FP32

ROOT = Path(__file__).resolve().parents[2]


class Net:
    """A loaded .param and .bin: (C, H, W) float32 in, the blobs that are asked for out."""

    def __init__(self, param: Path, precision: str = FP32, threads: Optional[int] = None):
        self.param, self.net = param, ncnn.Net()
        options = self.net.opt  # must be set before the files are loaded: later ones give NaN
        options.use_vulkan_compute = False
        # On by default, and on an Arm CPU they are what they say; an x86 CPU has no such arithmetic.
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = precision == "fp16"
        options.use_bf16_storage = options.use_bf16_packed = precision == "bf16"
        if threads:
            options.num_threads = threads
        self.threads = options.num_threads
        if self.net.load_param(os.fspath(param)) or self.net.load_model(os.fspath(bin_of(param))):
            raise UserError(f"{param}: ncnn {ncnn.__version__} cannot load it")
        self.inputs, self.outputs = self.net.input_names(), self.net.output_names()

    def run(self, row: np.ndarray, blobs: Sequence[str]) -> List[np.ndarray]:
        """`row` is (C, H, W) float32 and contiguous. An extractor gives the first image's blobs for ever after, so
        each image has its own."""
        extractor = self.net.create_extractor()
        extractor.set_light_mode(len(blobs) == 1 and blobs[0] in self.outputs)  # else it frees what is asked for next
        image = ncnn.Mat(row)  # without a copy: `row` lives until the last extract
        if extractor.input(self.inputs[0], image):
            raise UserError(f"{self.param}: ncnn takes no blob {self.inputs[0]}")
        return [self._extract(extractor, blob) for blob in blobs]

    def _extract(self, extractor: Any, blob: str) -> np.ndarray:
        code, mat = extractor.extract(blob)
        if code or mat.empty():  # an empty Mat as an array ends the process
            raise UserError(f"{self.param}: ncnn {ncnn.__version__} gives no blob {blob} (code {code})")
        return np.array(mat, np.float32)


class Backend:
    """A .param with its .bin, one input and one output. Any batch: ncnn takes one image at a time.

    `precision` is that of values between layers and of float weights in memory; int8 is built into the file. `threads`
    None is ncnn's own choice, one for each fast core.
    """

    slots = 1

    def __init__(self, model: PathLike, device: Optional[str] = None, spec: Any = None, precision: str = FP32,
                 threads: Optional[int] = None):
        if device not in (None, "cpu"):
            raise UserError(f"--device {device}: the ncnn backend runs on cpu. Its Vulkan code is not offered")
        self.param = param_path(model)
        layers = read_param(self.param)
        self.facts = read_facts(self.param)
        in_layers = precision_of(layers)  # which do not say whether float weights are stored as float16
        self.stored = self.facts.get("precision", FP32) if in_layers == FP32 else in_layers
        shape = _input_shape(layers, self.param, spec)
        output_shape = try_model(self.param, shape)
        self.precision, self.net = precision, Net(self.param, precision, threads)
        self.weights_sha256 = self.facts.get("bin_sha256") or sha256_of_file(bin_of(self.param))
        self.times: List[float] = []
        self.input_dtype, self.row, self.output_row = np.dtype(np.float32), shape, output_shape
        self.input_shape: Tuple[Optional[int], ...] = (None, *shape)
        self.output_shape: Tuple[Optional[int], ...] = (None, *output_shape)

    def infer(self, rows: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.shape[1:] != self.row:
            raise UserError(f"{self.param}: takes rows of {self.row}, got {rows.shape[1:]}")
        output = np.empty((len(rows), *self.output_row), np.float32)
        started = time.perf_counter()
        for number, row in enumerate(rows):
            output[number], = self.net.run(row, self.net.outputs[:1])
        self.times.append(1000 * (time.perf_counter() - started))
        return output

    def describe(self) -> Dict[str, Any]:
        precision = self.precision if self.stored == FP32 else self.stored
        return {"device": "cpu", **ROOM.precision(precision), "options": self.precision, "threads": self.net.threads,
                "weights_sha256": self.weights_sha256, "ncnn": ncnn.__version__}

    def close(self) -> None:
        self.net = None  # type: ignore[assignment]


def _input_shape(layers: Sequence[Layer], param: Path, spec: Any) -> Tuple[int, ...]:
    """(C, H, W) as the one Input layer says, or the config where it does not."""
    inputs = [layer for layer in layers if layer.kind == "Input"]
    read = {name for layer in layers for name in layer.inputs}
    outputs = [name for layer in layers for name in layer.outputs if name not in read]
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(f"{param}: expected one input and one output, got {len(inputs)} and {len(outputs)} "
                        f"({', '.join(outputs)})")
    shape = tuple(inputs[0].number(key) for key in ("2", "1", "0"))
    if all(shape):
        return shape
    if spec is None:
        raise UserError(f"{param}: does not say the size of its input. Give the --cfg of this model")
    return tuple(spec.input_shape)


def try_model(param: Path, shape: Sequence[int]) -> Tuple[int, ...]:
    """Load the model and run it once in another process: the shape of its output. Raises UserError with what ncnn
    prints, also where the process ends by a signal."""
    command = [sys.executable, "-m", "backends.ncnn.trial", os.path.abspath(param), *map(str, shape)]
    tried = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if tried.returncode:
        said = " ".join(tried.stderr.split()) or f"its process ended with {tried.returncode}"
        raise UserError(f"{param}: ncnn {ncnn.__version__} cannot run it on an input of "
                        f"{' x '.join(map(str, shape))}: {said}. Convert the model with this ncnn, or install the ncnn "
                        "that it was made with")
    return tuple(map(int, tried.stdout.split()[-1].split(",")))
