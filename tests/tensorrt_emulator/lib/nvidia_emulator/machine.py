"""The configuration of the emulated machine, the faults injected into it, and what programs did that they must not.

NVIDIA_EMULATOR_CONFIG is JSON text; every key is optional, `Machine` has the defaults.
"""
from __future__ import annotations

import atexit
import dataclasses
import json
import os
import sys
import threading
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

CONFIG = "NVIDIA_EMULATOR_CONFIG"
UNKNOWN = 999  # cudaErrorUnknown
DRIVER, RUNTIME = 12080, 12090  # CUDA versions: major * 1000 + minor * 10


@dataclasses.dataclass
class Fault:
    """A failure of one call, such as cudaMalloc, Builder.build_serialized_network, or `kernel`, an execution itself.

    `nth` counts the calls of that name from 1; every call fails where it is None. Calls of CUDA return `code`, those of
    TensorRT what they return when they fail, after `message` was logged.
    """

    call: str
    nth: Optional[int] = None
    code: int = UNKNOWN
    message: str = "Error Code 1: injected failure"


@dataclasses.dataclass
class Machine:
    """devices: 0 is a machine without a GPU. gpu, compute_capability: of all of them.

    libcuda: whether there is a driver's library. cuda-python 12.2 raises where there is none.

    schedule, seed: when asynchronous work is done: late, eager or shuffle, see device.py.
    memory_mb: of each device. profile_sharing: whether contexts may share a profile; None is what the version does.
    warnings: what a build says that goes well.
    clocks, highest_clock, watts, throttled: what nvidia-smi tells, in MHz and as NVML's bits; the clocks in turn.
    trace: a file; when the process ends a line of JSON says what is open, what was called and what was done wrong.
    """

    tensorrt: str = "10.3.0"
    devices: int = 1
    gpu: str = "NVIDIA A100-SXM4-40GB"
    compute_capability: Tuple[int, int] = (8, 0)
    libcuda: bool = True
    driver: int = DRIVER
    runtime: int = RUNTIME
    schedule: str = "late"
    seed: int = 0
    memory_mb: int = 40960
    profile_sharing: Optional[bool] = None
    errors: List[Fault] = dataclasses.field(default_factory=list)
    warnings: List[str] = dataclasses.field(default_factory=list)
    trace: str = ""
    clocks: Tuple[int, ...] = (1410,)
    highest_clock: int = 1410
    watts: float = 250.0
    throttled: int = 0

    def __post_init__(self) -> None:
        self.compute_capability = tuple(self.compute_capability)
        self.errors = [fault if isinstance(fault, Fault) else Fault(**fault) for fault in self.errors]
        self.counts: Counter = Counter()  # of calls
        self.notes: List[str] = []  # what a program did that gives no error, and wrong or chance results
        self.lock = threading.Lock()

    @property
    def major(self) -> int:
        return int(self.tensorrt.split(".")[0])

    def enter(self, call: str) -> Optional[Fault]:
        """Count a call; the fault that hits it."""
        with self.lock:
            self.counts[call] += 1
            count = self.counts[call]
        return next((fault for fault in self.errors if fault.call == call and fault.nth in (None, count)), None)

    def note(self, text: str) -> None:
        self.notes.append(text)


_HERE: List[Machine] = []


def machine() -> Machine:
    """The machine of this process, read once."""
    if not _HERE:
        _HERE.append(Machine(**json.loads(os.environ.get(CONFIG) or "{}")))
    return _HERE[0]


def become(one: Machine) -> None:
    """Make this process another machine."""
    _HERE[:] = [one]


def report(leaks: Dict[str, int]) -> None:
    """Say on stderr, and in the trace, what was left open and what was done wrong."""
    here = machine()
    if leaks or here.notes:
        print(f"[tensorrt emulator] still open: {leaks}, wrong: {here.notes}", file=sys.stderr)
    if here.trace:
        entry: Dict[str, Any] = {"pid": os.getpid(), "leaks": leaks, "notes": here.notes, "counts": here.counts}
        with open(here.trace, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def at_exit(leaks: Any) -> None:
    """Have `report(leaks())` called when the process ends, if anything was called at all."""
    atexit.register(lambda: report(leaks()) if machine().counts else None)
