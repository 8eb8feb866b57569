"""acl.util: Python objects as pointers and back, threads."""
from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from .state import DEVICE, STATE

NUMPY_TYPES = {0: np.bool_, 1: np.int8, 2: np.uint8, 3: np.int16, 4: np.uint16, 5: np.int32, 6: np.uint32, 7: np.int64,
               8: np.uint64, 9: np.int64, 10: np.uint64, 11: np.float32, 12: np.float64, 23: np.float16}
_THREADS: Dict[int, threading.Thread] = {}
_NUMBERS = itertools.count(1)


def _readable(address: int) -> int:
    """Python code on a host cannot look into device memory: a card ends such a program with a segmentation fault."""
    memory = STATE.find(address)
    if address == 0 or (memory is not None and memory.kind == DEVICE):
        raise MemoryError(f"{address:#x} is not host memory: on a machine with a card this is a segmentation fault")
    return address


def bytes_to_ptr(data: bytes) -> int:
    """The address of the content; the caller keeps the object alive."""
    if not isinstance(data, bytes):
        raise TypeError(f"bytes_to_ptr takes bytes, not {type(data).__name__}")
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def ptr_to_bytes(address: int, size: int) -> bytes:
    return ctypes.string_at(_readable(address), size)


def numpy_to_ptr(array: np.ndarray) -> int:
    print("[WARNING] acl.util.numpy_to_ptr will be removed, use bytes_to_ptr", file=sys.stderr)
    if not array.flags.c_contiguous:
        print("[WARNING] the array is not contiguous", file=sys.stderr)
    return array.ctypes.data


def numpy_contiguous_to_ptr(array: np.ndarray) -> Tuple[int, np.ndarray]:
    array = np.ascontiguousarray(array)
    return array.ctypes.data, array


def ptr_to_numpy(address: int, shape: tuple, numpy_type: int) -> np.ndarray:
    """A view of host memory."""
    print("[WARNING] acl.util.ptr_to_numpy will be removed, use ptr_to_bytes", file=sys.stderr)
    dtype = np.dtype(NUMPY_TYPES[numpy_type])
    count = int(np.prod(shape, dtype=np.int64))
    content = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(_readable(address))
    return np.frombuffer(content, dtype).reshape(shape)


def start_thread(function: Callable, arguments: List[Any]) -> Tuple[int, int]:
    number = next(_NUMBERS)
    _THREADS[number] = threading.Thread(target=function, args=tuple(arguments), daemon=True)
    _THREADS[number].start()
    return number, 0


def stop_thread(number: int) -> int:
    _THREADS.pop(number).join()
    return 0
