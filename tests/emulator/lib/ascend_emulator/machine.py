"""The configuration of the emulated machine, and the faults injected into it.

EMULATOR_CONFIG is the path of a JSON file or JSON text; every key is optional (`Machine` has the defaults):

    soc, devices, cann          what the machine is
    errors                      a list of faults, see `Fault`
    slow                        {call: seconds} added to each such call
    trace                       a file; every call appends one JSON line
    schedule, seed              order of asynchronous work: late, eager or shuffle (acl/streams.py)
    memory_mb                   device memory; more is error 207001
    aipp_arithmetic             float32 (default) or float16, see aipp.py
    npu_smi                     see npu_smi.py
    setuptools, aclruntime_version   what ais_bench finds when it looks for its backend
    libpython                   whether atc finds the shared library of python3
    kernels                     whether the operators of chips are installed, a package of their own from CANN 8.5 on
"""
from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import threading
import time
from collections import Counter
from typing import Any, Dict, List, Optional, Union

from .chips import Chip, find_chip


@dataclasses.dataclass
class Fault:
    """A failure of a call, by its C name (aclmdlExecute), its Python name (acl.mdl.execute), or `atc`.

    `nth` counts the calls of that name in a process from 1 (an int or a list; every call where it is absent), `device`
    limits it to the process that works on this device. Then `signal` ends the process, or `code` is returned
    (`value` instead where it is given, which no document allows, to see who notices); `effect` is for atc.
    """
    call: str
    nth: Union[int, List[int], None] = None
    device: Optional[int] = None
    code: Optional[int] = None
    message: str = ""
    signal: Optional[int] = None
    effect: str = ""
    value: Any = ...

    def hits(self, call: str, count: int, device: Optional[int]) -> bool:
        if c_name(self.call) != call or self.device not in (None, device):
            return False
        return self.nth is None or count in (self.nth if isinstance(self.nth, list) else [self.nth])


@dataclasses.dataclass
class Machine:
    soc: str = "Ascend310P3"
    devices: int = 1
    cann: str = "9.1.0"
    errors: List[Fault] = dataclasses.field(default_factory=list)
    slow: Dict[str, float] = dataclasses.field(default_factory=dict)
    trace: str = ""
    schedule: str = "late"
    seed: int = 0
    memory_mb: int = 0
    aipp_arithmetic: str = "float32"
    npu_smi: Dict[str, Any] = dataclasses.field(default_factory=dict)
    setuptools: bool = True
    aclruntime_version: Optional[str] = "0.0.2"
    libpython: bool = True
    kernels: bool = True

    def __post_init__(self) -> None:
        self.errors = [fault if isinstance(fault, Fault) else Fault(**fault) for fault in self.errors]
        self.slow = {c_name(call): seconds for call, seconds in self.slow.items()}
        self.memory_mb = self.memory_mb or self.chip.memory_mb
        self.counts: Counter = Counter()
        self.lock = threading.Lock()

    @property
    def chip(self) -> Chip:
        chip = find_chip(self.soc)
        if chip is None:
            raise ValueError(f"EMULATOR_CONFIG: soc {self.soc!r} is not one that the emulator knows")
        return chip

    def enter(self, call: str, device: Optional[int] = None) -> Optional[Fault]:
        """Count a call, delay it, and return the fault that hits it; a fault with a signal does not return."""
        with self.lock:
            self.counts[call] += 1
            count = self.counts[call]
        if call in self.slow:
            time.sleep(self.slow[call])
        fault = next((fault for fault in self.errors if fault.hits(call, count, device)), None)
        if fault is not None and fault.signal is not None:
            self.write_trace({"call": call, "signal": fault.signal})
            os.kill(os.getpid(), fault.signal)
            signal.pause()  # a signal that is handled or pending must not let the call go on
        return fault

    def write_trace(self, entry: Dict[str, Any]) -> None:
        if self.trace:
            with open(self.trace, "a", encoding="utf-8") as file:
                file.write(json.dumps({"pid": os.getpid(), **entry}) + "\n")


IRREGULAR_NAMES = {"acl.rt.set_context": "aclrtSetCurrentContext", "acl.rt.get_context": "aclrtGetCurrentContext"}


@functools.lru_cache(None)
def c_name(call: str) -> str:
    """acl.mdl.execute_async -> aclmdlExecuteAsync; other names are as they are."""
    if call in IRREGULAR_NAMES or not call.startswith("acl."):
        return IRREGULAR_NAMES.get(call, call)
    *modules, function = call.split(".")
    return "".join(modules) + "".join(word.capitalize() for word in function.split("_"))


_HERE: List[Machine] = []


def machine() -> Machine:
    """The machine of this process, read once; forked children keep its counts."""
    if not _HERE:
        text = os.environ.get("EMULATOR_CONFIG", "").strip()
        if text and not text.startswith("{"):
            with open(text, encoding="utf-8") as file:
                text = file.read()
        _HERE.append(Machine(**json.loads(text or "{}")))
    return _HERE[0]


def become(one: Machine) -> None:
    """Make this process another machine."""
    _HERE[:] = [one]
