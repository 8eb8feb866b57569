"""aclruntime's tensors and its times of copies."""
from __future__ import annotations

import ctypes
import enum
import time
from typing import Any, List, Optional, Tuple

import numpy as np

from .. import acl, om
from ..acl.state import STATE
from . import console
from .failures import BAD_ALLOC, BAD_COPY, COMM_INVALID_PARAM, Failure, expect

HUGE_FIRST = 0
H2D, D2H = 1, 2
ON_HOST = -1


class _Enum(enum.IntEnum):
    """Numbers that show their names, as pybind11's do."""
    __str__ = enum.Enum.__str__


dtype = _Enum("dtype", {("double" if name == "float64" else name): number for name, number in om.DTYPES.items()})
type = _Enum("type", {"memory_host": 0, "memory_device": 1, "memory_dvpp": 2})  # its public name


class MemorySummary:
    """One for the process: milliseconds of each copy."""
    _only: Optional[MemorySummary] = None
    H2D_time_list: List[float]
    D2H_time_list: List[float]

    def __new__(cls) -> MemorySummary:
        if cls._only is None:
            cls._only = super().__new__(cls)
            cls._only.reset()
        return cls._only

    def reset(self) -> None:
        self.H2D_time_list, self.D2H_time_list = [], []


class BaseTensor:
    """Memory of somebody else."""

    def __init__(self, ptr: int, nbytes: int):
        self.buf, self.size = ptr, nbytes


def float32(value: float) -> float:
    return float(np.float32(value))


class DeviceMemory:
    """Freed with the object; what is left when acl ends is gone with it."""

    def __init__(self, size: int):
        self.size = size
        self.address, code = acl.rt.malloc(size, HUGE_FIRST)
        try:
            expect(code)
        except Failure as failure:
            console.stream(f"[{failure.code}][Error code unknown] Malloc ptrData failed.")
            raise Failure(BAD_ALLOC) from None

    def copy(self, host: int, count: int, kind: int) -> None:
        start = time.time()
        device = self.address
        code = (acl.rt.memcpy(device, self.size, host, count, kind) if kind == H2D
                else acl.rt.memcpy(host, count, device, count, kind))
        times = MemorySummary()
        (times.H2D_time_list if kind == H2D else times.D2H_time_list).append(float32(1000 * (time.time() - start)))
        expect(code, fails_with=BAD_COPY)

    def __del__(self) -> None:
        if getattr(self, "address", 0) and STATE is not None and self.address in STATE.memory:
            del STATE.memory[self.address]  # the free of a destructor, whichever context is current


def to_device(ptr: int, size: int) -> DeviceMemory:
    memory = DeviceMemory(size)
    memory.copy(ptr, size, H2D)
    return memory


class Tensor:
    """A copy of an array, on the host or a device; only on the host it can be made an array."""

    def __init__(self, array: Any):
        self._host: Optional[np.ndarray] = np.array(array, order="C")
        self._start(self._host.shape, self._host.dtype, None, ON_HOST)

    def _start(self, shape: Tuple[int, ...], kind: np.dtype, memory: Optional[DeviceMemory], device: int) -> None:
        self._shape, self._kind, self._memory, self.device = tuple(shape), kind, memory, device

    @classmethod
    def on_device(cls, memory: DeviceMemory, shape: Tuple[int, ...], kind: str, device: int) -> Tensor:
        tensor = cls.__new__(cls)
        tensor._host = None
        tensor._start(shape, np.dtype(kind), memory, device)
        return tensor

    @property
    def nbytes(self) -> int:
        return int(np.prod(self._shape, dtype=np.int64)) * self._kind.itemsize

    @property
    def shape(self) -> List[int]:
        return list(self._shape)

    @property
    def dtype(self) -> dtype:
        return dtype(om.DTYPES.get(self._kind.name, om.DTYPES["uint8"]))

    @property
    def type(self) -> type:
        return type.memory_host if self._host is not None else type.memory_device

    def to_device(self, device: int) -> None:
        if self.device == device and self._host is None:
            return
        count, _ = acl.rt.get_device_count()
        if not 0 <= device < count:
            console.stream(f"deviceId({device}) is bigger than deviceCount({count})")
            raise Failure(COMM_INVALID_PARAM)
        self.to_host()
        self._memory = to_device(self._host.ctypes.data, self.nbytes)
        self._host, self.device = None, device

    def to_dvpp(self, device: int) -> None:
        self.to_device(device)

    def to_host(self) -> None:
        if self._host is not None:
            return
        array = np.empty(self._shape, self._kind)
        self._memory.copy(array.ctypes.data, self.nbytes, D2H)
        self._host, self._memory, self.device = array, None, ON_HOST

    def __array__(self, kind: Any = None, copy: Any = None) -> np.ndarray:
        if self._host is None:
            raise RuntimeError("tensor is in npu. can't convert to numpy array")
        return self._host if kind is None else self._host.astype(kind)

    def __str__(self) -> str:
        shape = ", ".join(map(str, self._shape))
        return f"<Tensor>\nshape:\t({shape})\ndtype:\t{self.dtype.name}\ndevice:\t{self.device}"

    __repr__ = __str__


def batch(inputs: List[Tensor], keep_dims: bool = False) -> Tensor:
    """Host tensors joined along the first axis (keep_dims), or along a new one."""
    arrays = [np.array(tensor) for tensor in inputs]
    return Tensor(np.concatenate(arrays) if keep_dims else np.stack(arrays))


def read_files(paths: List[str], size: int) -> np.ndarray:
    """The bytes of the files one after the other, in a host tensor of `size` bytes."""
    content, offset = np.zeros(size, np.uint8), 0
    for number, path in enumerate(paths):
        try:
            data = np.fromfile(path, np.uint8)
        except OSError:
            raise _file_failed(number, path, f"open file {path} failed") from None
        if not data.size:
            raise _file_failed(number, path, f"binfile is empty, filename is {path}")
        if offset + data.size > size:
            raise _file_failed(number, path, f"offset:{offset} filesize:{data.size} > size:{size} invalid")
        ctypes.memmove(content.ctypes.data + offset, data.ctypes.data, data.size)
        offset += data.size
    return content


def _file_failed(number: int, path: str, line: str) -> Failure:
    for text in (line, "ReadBinFile ToMemory failed ret:1", f"TensorBaseMalloc i:{number} file:{path} failed ret:1"):
        console.say(console.ERROR, text)
    return Failure(1)
