"""Devices and memory of the CUDA runtime."""
from __future__ import annotations

import ctypes
import operator
from typing import Any, Tuple

import numpy as np

from . import codes
from .calls import api, raise_lost
from .codes import cudaError_t
from .device import (
    CAPTURE_UNSUPPORTED,
    DEVICE,
    INVALID_VALUE,
    OUT_OF_MEMORY,
    PINNED,
    STATE,
    CudaFailure,
    Memory,
    Task,
    drain_all,
    finish,
    submit,
)
from .machine import machine

POISON_OF_FREED = 0xDD


@api(1)
def cudaGetDeviceCount() -> int:
    return machine().devices


@api(1)
def cudaDriverGetVersion() -> int:
    return machine().driver if machine().devices else 0


@api(1)
def cudaRuntimeGetVersion() -> int:
    return machine().runtime


@api(1)
def cudaGetErrorName(error: Any) -> bytes:
    return cudaError_t(error).name.encode()


@api(1)
def cudaGetErrorString(error: Any) -> bytes:
    return codes.TEXTS.get(int(error), cudaError_t(error).name).encode()


@api()
def cudaGetLastError() -> None:
    """Returns the last error of this thread as its code, and forgets it."""
    last, STATE.thread.last_error = getattr(STATE.thread, "last_error", 0), 0
    if STATE.sticky or last:
        raise CudaFailure(STATE.sticky or last)


def _device(number: int) -> int:
    if not 0 <= operator.index(number) < machine().devices:
        raise CudaFailure(cudaError_t.cudaErrorInvalidDevice)
    return number


@api()
def cudaSetDevice(device: int) -> None:
    """Opens it, as from CUDA 12 on."""
    STATE.thread.device = _device(device)
    STATE.opened.add(device)


@api(1)
def cudaGetDevice() -> int:
    return STATE.device


@api(1)
def cudaGetDeviceProperties(device: int) -> Any:
    _device(device)
    return codes.cudaDeviceProp(machine().gpu, *machine().compute_capability, machine().memory_mb << 20)


@api(1)
def cudaDeviceGetAttribute(attribute: Any, device: int) -> int:
    _device(device)
    return machine().compute_capability[codes.cudaDeviceAttr(attribute) - 75]


@api(2)
def cudaMemGetInfo() -> Tuple[int, int]:
    total = machine().memory_mb << 20
    return total - STATE.used(STATE.device), total


@api(unsafe=True)
def cudaDeviceSynchronize() -> None:
    drain_all()
    raise_lost()


def _allocate(kind: str, size: int) -> int:
    device = STATE.device
    if kind == DEVICE and STATE.used(device) + operator.index(size) > machine().memory_mb << 20:
        raise CudaFailure(OUT_OF_MEMORY)
    memory = Memory(kind, operator.index(size), device)
    STATE.memory[memory.address] = memory
    return memory.address


def _free(kind: str, address: int) -> None:
    """Waits for the device first, as the real ones do."""
    drain_all()
    memory = STATE.memory.get(int(address))
    if memory is None or memory.kind != kind:
        raise CudaFailure(INVALID_VALUE)
    STATE.freed.append(STATE.memory.pop(memory.address))
    memory.bytes[:] = POISON_OF_FREED


@api(1, unsafe=True)
def cudaMalloc(size: int) -> int:
    return _allocate(DEVICE, size)


@api(unsafe=True)
def cudaFree(pointer: Any) -> None:
    _free(DEVICE, pointer)


@api(1, unsafe=True)
def cudaMallocHost(size: int) -> int:
    return _allocate(PINNED, size)


@api(1, unsafe=True)
def cudaHostAlloc(size: int, flags: int) -> int:
    return _allocate(PINNED, size)


@api(unsafe=True)
def cudaFreeHost(pointer: Any) -> None:
    _free(PINNED, pointer)


def _end(address: int, size: int, on_device: bool) -> np.ndarray:
    """One end of a copy: live memory of ours, or memory of the process that is not pinned."""
    memory = STATE.find(address)
    if on_device or memory is not None:
        kind = DEVICE if on_device else PINNED
        try:
            return STATE.window(address, size, kind)
        except CudaFailure:
            raise CudaFailure(INVALID_VALUE) from None
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)


def _copy(destination: Any, source: Any, count: int, kind: Any) -> Tuple[np.ndarray, np.ndarray]:
    kind = codes.cudaMemcpyKind(kind.value)  # an int in its place is an AttributeError there, too
    if kind not in (1, 2, 3):
        raise CudaFailure(INVALID_VALUE)
    return (_end(int(destination), count, kind != 2), _end(int(source), count, kind != 1))


@api(unsafe=True)
def cudaMemcpy(dst: Any, src: Any, count: int, kind: Any) -> None:
    """On the default stream: it does not wait for streams that are non-blocking."""
    destination, source = _copy(dst, src, count, kind)
    task = Task(STATE.defaults[STATE.device], lambda: np.copyto(destination, source))
    submit(task)
    finish(task)
    raise_lost()


@api()
def cudaMemcpyAsync(dst: Any, src: Any, count: int, kind: Any, stream: Any) -> None:
    queue = STATE.stream(stream)
    destination, source = _copy(dst, src, count, kind)
    pinned = STATE.find(int(dst)) is not None and STATE.find(int(src)) is not None
    if not pinned:
        STATE.pageable += 1
        if queue.capture is not None:
            queue.capture.valid = False
            raise CudaFailure(CAPTURE_UNSUPPORTED)
    if not pinned and int(kind) == 1:
        source = source.copy()  # the driver stages it before the call returns
    task = Task(queue, lambda: np.copyto(destination, source))
    submit(task)
    if not pinned and int(kind) == 2:
        finish(task)
