"""How TensorRT tells failure: a text through the logger, and None, False or -1 as the result."""
from __future__ import annotations

import functools
import inspect
import threading
from typing import Any, Callable

from .calls import forbid_in_capture
from .device import STATE, CudaFailure
from .enums import Enums
from .machine import machine

Severity = Enums.Severity
ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


class Crash(BaseException):
    """Where the real library ends the process with a segmentation fault."""


class Failure(Exception):
    """Inside of a call: its text goes to the logger."""


class ILogger:
    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self) -> None:
        self._called = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError("a logger is a class of the program's own with a method log")


class Logger(ILogger):
    """Writes what is at least as severe as `min_severity` to stderr."""

    def __init__(self, min_severity: Any = WARNING):
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        if int(severity) <= int(self.min_severity):
            import sys

            print(f"[TRT] [{severity.name[0]}] {msg}", file=sys.stderr)


class Thing:
    """An object of TensorRT: it has a logger, lives on the device that was current, and remembers its thread."""

    def __init__(self, logger: ILogger):
        if not isinstance(logger, ILogger):
            raise TypeError("__init__(): incompatible constructor arguments: expected a tensorrt.ILogger")
        if not getattr(logger, "_called", False):
            raise TypeError("tensorrt.ILogger.__init__() must be called when overriding __init__")
        self._logger, self.device, self._thread = logger, STATE.device, threading.get_ident()
        STATE.objects.add(self)

    def log(self, severity: Any, text: str) -> None:
        self._logger.log(severity, text)


def api(failed: Any = None, unsafe: bool = False) -> Callable[[Callable], Callable]:
    """A method that raises Failure -> the call, which logs the text and returns `failed`.

    unsafe: it allocates or synchronises, which is not allowed while a graph is captured.
    """

    def wrap(method: Callable) -> Callable:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def call(self: Thing, *args: Any, **named: Any) -> Any:
            bound = signature.bind(self, *args, **named)
            name = f"{type(self).__name__}.{method.__name__.lstrip('_')}"
            if self._thread != threading.get_ident():
                machine().note(f"{name} is called from another thread than made the object")
            with STATE.lock:
                try:
                    fault = machine().enter(name)
                    if fault is not None:
                        raise Failure(fault.message)
                    if unsafe:
                        forbid_in_capture()
                    return method(*bound.args, **bound.kwargs)
                except Failure as failure:
                    self.log(ERROR, str(failure))
                except CudaFailure as failure:
                    self.log(ERROR, f"Error Code 1: Cuda Runtime ({failure.code})")
                return failed

        return call

    return wrap
