"""How a function becomes a call of cuda-python's runtime module, which returns a tuple: the code, then its values."""
from __future__ import annotations

import functools
import inspect
import threading
from typing import Any, Callable, Dict, Tuple

from .codes import cudaError_t
from .device import CAPTURE_UNSUPPORTED, NOT_READY, STATE, CudaFailure
from .machine import machine

FUNCTIONS: Dict[str, Callable] = {}
STATELESS = ("cudaGetErrorName", "cudaGetErrorString", "cudaGetLastError", "cudaDriverGetVersion",
             "cudaRuntimeGetVersion")  # these answer without a device, and after it was lost
CONTEXTLESS = ("cudaGetDeviceCount", "cudaSetDevice", "cudaGetDevice", "cudaGetDeviceProperties",
               "cudaDeviceGetAttribute")  # every other call opens the device of its thread
GLOBAL, RELAXED = 0, 2  # capture modes


def api(values: int = 0, unsafe: bool = False, counted: bool = True) -> Callable[[Callable], Callable]:
    """A function that raises CudaFailure -> the call, which returns (code, its `values` or as many None).

    unsafe: it may synchronise behind the scenes, so it is not allowed, and spoils the capture, while one is made.
    counted: False for one that counts itself, because a fault leaves something to do.
    """

    def wrap(function: Callable) -> Callable:
        name, signature = function.__name__, inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any) -> Tuple[Any, ...]:
            signature.bind(*args)
            result: Any = None
            with STATE.lock:
                try:
                    if counted:
                        enter(name)
                    _check(name, unsafe)
                    result, code = function(*args), 0
                except CudaFailure as failure:
                    code = failure.code
                    if name != "cudaGetLastError" and code != NOT_READY:
                        STATE.thread.last_error = code
            return (cudaError_t(code), *((result,) if values == 1 else result or (None,) * values if values else ()))

        FUNCTIONS[name] = call
        return call

    return wrap


def enter(name: str) -> None:
    fault = machine().enter(name)
    if fault is not None:
        raise CudaFailure(fault.code)


def _check(name: str, unsafe: bool) -> None:
    if name in STATELESS:
        return
    if not machine().libcuda:
        raise RuntimeError("Failed to dlopen libcuda.so.1")
    if not machine().devices:
        raise CudaFailure(cudaError_t.cudaErrorInsufficientDriver)
    if STATE.sticky:
        raise CudaFailure(STATE.sticky)
    if name not in CONTEXTLESS:
        STATE.opened.add(STATE.device)
    if unsafe:
        forbid_in_capture()


def forbid_in_capture() -> None:
    """As for cudaMalloc: not while this thread captures, nor while any thread captures in the global mode."""
    captures = [stream.capture for stream in STATE.streams() if stream.capture is not None]
    hit = [capture for capture in captures if capture.mode != RELAXED and
           (capture.mode == GLOBAL or capture.thread == threading.get_ident())]
    for capture in hit:
        capture.valid = False
    if hit:
        raise CudaFailure(CAPTURE_UNSUPPORTED)


def raise_lost() -> None:
    """A failure of asynchronous work is told by the call that waits for it, and by all that follow."""
    if STATE.sticky:
        raise CudaFailure(STATE.sticky)
