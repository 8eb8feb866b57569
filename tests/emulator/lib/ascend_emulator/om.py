"""The `.om` of the emulator: one JSON line that says what atc built, then the ONNX file, run by ONNX Runtime."""
from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from . import aipp
from .machine import machine
from .onnx_session import open_session

MAGIC = b'{"emulated_om": 1,'
GEAR_INPUT = "ascend_mbatch_shape_data"  # the hidden input of a model with batch gears
GEAR_BYTES = 8
# ACL number of a data type, as aclDataType has it
DTYPES = {"float32": 0, "float16": 1, "int8": 2, "int32": 3, "uint8": 4, "int16": 6, "uint16": 7, "uint32": 8,
          "int64": 9, "uint64": 10, "float64": 11, "bool": 12}
NCHW, NHWC, ND = 0, 1, 2


class NotAModel(ValueError):
    """The file does not begin like one that the emulated atc wrote."""


class Tensor(NamedTuple):
    name: str
    dtype: str
    shape: Tuple[int, ...]  # -1 for the batch of a model with gears
    format: int

    def dims(self, batch: int) -> Tuple[int, ...]:
        return tuple(batch if size == -1 else size for size in self.shape)

    def nbytes(self, batch: int) -> int:
        return int(np.prod(self.dims(batch), dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Model:
    """An emulated .om in memory. `gears` is empty for a static batch."""

    def __init__(self, data: bytes):
        line, _, self.onnx = data.partition(b"\n")
        if not line.startswith(MAGIC):
            raise NotAModel("the file does not begin with the header of an emulated .om")
        try:
            self.facts: Dict[str, Any] = json.loads(line)
        except ValueError:
            raise NotAModel("its header is cut off") from None
        self.gears: List[int] = self.facts["gears"]
        self.inputs, self.outputs = ([Tensor(name, dtype, tuple(shape), form) for name, dtype, shape, form in tensors]
                                     for tensors in (self.facts["inputs"], self.facts["outputs"]))
        self._session = None

    @property
    def largest_gear(self) -> int:
        return max(self.gears, default=0)

    def run(self, inputs: List[np.ndarray], batch: int) -> List[np.ndarray]:
        """One execution: bytes of each declared input (uint8, 1-D) -> the arrays of each output."""
        feeds = {}
        for number, (tensor, data) in enumerate(zip(self.inputs, inputs)):
            array = data[:tensor.nbytes(batch)].view(tensor.dtype).reshape(tensor.dims(batch))
            fields = self.facts["aipp"].get(str(number))
            feeds[tensor.name] = array if fields is None else aipp.normalise(array, fields, machine().aipp_arithmetic)
        results = self.session().run(self.facts["onnx_outputs"], feeds)
        with np.errstate(over="ignore"):
            return [np.ascontiguousarray(result, tensor.dtype) for result, tensor in zip(results, self.outputs)]

    def session(self) -> Any:
        """Made when it is first needed."""
        if self._session is None:
            self._session = open_session(self.onnx)
        return self._session


def pack(facts: Dict[str, Any], onnx_bytes: bytes) -> bytes:
    line = json.dumps(facts)
    return MAGIC + b" " + line[1:].encode() + b"\n" + onnx_bytes


def read(path: str) -> Model:
    with open(path, "rb") as file:
        return Model(file.read())


def version_key(cann: str) -> Tuple[Any, ...]:
    """8.1.RC1 < 8.1.0 < 8.2.RC1: a release follows its candidates."""
    numbers, candidate = [], 99
    for part in cann.upper().split("."):
        if part.startswith("RC"):
            candidate = int(part[2:] or 0)
        elif part.isdigit():
            numbers.append(int(part))
    return (*(numbers + [0, 0, 0])[:3], candidate)


def gear_of(value: Optional[int], model: Model) -> int:
    """The batch of an execution: the gear that was set, the largest where none was, the static one."""
    if not model.gears:
        return model.inputs[0].shape[0] if model.inputs[0].shape else 1
    return value if value is not None else model.largest_gear
