"""What one process has open: handles, memory, the current context of each thread; and how a call is made of a function.

A rule that is broken raises AclError inside; `api` turns it into the return value that the real call has, and keeps its
text for acl.get_recent_err_msg().
"""
from __future__ import annotations

import atexit
import functools
import inspect
import itertools
import operator
import random
import sys
import threading
from collections import Counter
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from ..machine import c_name, machine
from . import codes
from .codes import AclError

DEVICE, HOST = "device memory", "host memory"
POISON = {DEVICE: 0xFF, HOST: 0xA5}  # fresh memory is not zero: as float32, device memory is NaN
ALIGNMENT = 64


class Memory:
    """One allocation; `bytes` is its content."""

    def __init__(self, kind: str, size: int, device: int):
        store = np.full(size + ALIGNMENT, POISON[kind], np.uint8)
        start = -store.ctypes.data % ALIGNMENT
        self.kind, self.size, self.device = kind, size, device
        self.bytes = store[start:start + size]
        self.address = self.bytes.ctypes.data


class State:
    """`initialised` is None before aclInit, True after it, False after aclFinalize."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.quiet = False  # ais_bench's stderr holds what the recordings hold, nothing of the emulator
        self.clear()

    def clear(self) -> None:
        self.initialised: Optional[bool] = None
        self.numbers = itertools.count(0x1000, 0x10)  # handles; no number is used twice
        self.model_numbers = itertools.count(1)
        self.message: Optional[str] = None
        self.dice = random.Random(machine().seed)  # of the schedule `shuffle`
        self.close()

    def close(self) -> None:
        self.handles: Dict[int, Any] = {}
        self.memory: Dict[int, Memory] = {}
        self.devices: Dict[int, Any] = {}  # device -> its default context
        self.device_users: Counter = Counter()  # set_device less reset_device
        self.models: Dict[int, Any] = {}
        self.thread = threading.local()

    def add(self, thing: Any) -> int:
        thing.handle = next(self.numbers)
        self.handles[thing.handle] = thing
        return thing.handle

    def get(self, handle: int, kind: type, code: int = codes.INVALID_PARAM) -> Any:
        thing = self.handles.get(handle)
        if not isinstance(thing, kind):
            raise AclError(code, f"EH0001: {handle:#x} is not a live {kind.__name__.lower()} handle")
        return thing

    def drop(self, handle: int, kind: type, code: int = codes.INVALID_PARAM) -> Any:
        self.get(handle, kind, code)
        return self.handles.pop(handle)

    def current(self) -> Any:
        """The context of this thread."""
        context = getattr(self.thread, "context", None)
        if context is None or not context.alive:
            raise AclError(codes.RT_CONTEXT, "EE1001: the calling thread has no context: call set_device, "
                                             "create_context or set_context first")
        return context

    def find(self, address: int) -> Optional[Memory]:
        """The allocation that an address lies in."""
        whole = self.memory.get(address)
        return whole or next((memory for memory in self.memory.values()
                              if memory.address <= address < memory.address + memory.size), None)

    def leaks(self) -> Dict[str, int]:
        """What is still open, by kind."""
        found = Counter(type(thing).__name__.lower() for thing in self.handles.values())
        found.update(memory.kind for memory in self.memory.values())
        found.update({"model": len(self.models), "device not reset": len(self.devices)})
        return {kind: count for kind, count in sorted(found.items()) if count}


STATE = State()
NOTHING = object()  # the value of a call that returns only its code
PRE_INIT = {"aclInit", "aclGetVersion", "aclGetRecentErrMsg", "aclDataTypeSize", "aclGetSocName", "aclFinalize"}


def device_now() -> Optional[int]:
    context = getattr(STATE.thread, "context", None)
    return None if context is None else context.device


def _shape(style: str, value: Any, code: int) -> Any:
    if style == "bare":
        return value
    if style == "ret":
        return code
    return (*value, code) if style == "tuple" else (value, code)


def _checked(signature: inspect.Signature, args: tuple) -> List[Any]:
    """Arguments as the C wrapper takes them: a wrong number or type is a TypeError, not a return code."""
    values = []
    for (name, value), parameter in zip(signature.bind(*args).arguments.items(), signature.parameters.values()):
        expected = parameter.annotation
        if expected == "int":
            value = operator.index(value)
        elif expected in ("str", "bytes", "dict") and type(value).__name__ != expected:
            raise TypeError(f"argument {name} must be {expected}, not {type(value).__name__}")
        values.append(value)
    return values


def api(style: str, failed: Any = None) -> Callable[[Callable], Callable]:
    """A function that raises AclError -> the call of pyACL.

    style: `ret` (the code), `value` (value, code), `tuple` (several values, code), `bare` (the value alone).
    failed: the value(s) when it fails.
    """

    def wrap(function: Callable) -> Callable:
        signature = inspect.signature(function)
        module = function.__module__.rsplit(".", 1)[1].split("_")[0]  # mdl_desc.py belongs to acl.mdl
        name = c_name(f"acl.{function.__name__}" if module == "base" else f"acl.{module}.{function.__name__}")

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            values = _checked(signature, args)
            fault = machine().enter(name, device_now())
            value, code = failed, codes.SUCCESS
            try:
                if fault is not None:
                    raise AclError(fault.code or 0, fault.message or f"EZ9999: injected failure of {name}")
                if not STATE.initialised and name not in PRE_INIT:
                    raise AclError(codes.UNINITIALIZED, f"EH0001: {name} before aclInit")
                value = function(*values)
            except AclError as error:
                code = error.code
                STATE.message = error.message
            machine().write_trace({"call": name, "args": [_short(value) for value in values], "code": code})
            if fault is not None and fault.value is not ...:
                return fault.value
            return _shape(style, value, code)

        return call

    return wrap


def _short(value: Any) -> Any:
    return value if isinstance(value, (int, str, type(None))) else type(value).__name__


def report_leaks(where: str) -> Dict[str, int]:
    """Say on stderr and in the trace what was left open."""
    leaks = STATE.leaks()
    machine().write_trace({"call": where, "leaks": leaks})
    if leaks and not STATE.quiet:
        text = ", ".join(f"{count} x {kind}" for kind, count in leaks.items())
        print(f"[ascend emulator] {where}: still open: {text}", file=sys.stderr)
    return leaks


@atexit.register
def _at_exit() -> None:
    if STATE.initialised:
        report_leaks("exit without aclFinalize")
