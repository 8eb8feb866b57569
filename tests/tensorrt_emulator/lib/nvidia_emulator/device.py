"""Memory, streams, events and graphs, and when asynchronous work is really done.

Work handed to a stream is done in its order, but a program must not rely on when. `schedule` of the machine says:

    late     only when something waits for it: a missing wait reads what was there before
    eager    at once
    shuffle  at random moments (`seed`), other streams included: work that may overtake will overtake
"""
from __future__ import annotations

import collections
import gc
import itertools
import random
import threading
import time
import weakref
from collections import Counter
from typing import Any, Callable, Deque, Dict, List, Optional, Set

import numpy as np

from .machine import at_exit, machine

DEVICE, PINNED = "device memory", "pinned memory"
POISON = {DEVICE: 0xFF, PINNED: 0xA5}  # fresh memory is not zero: as float32, device memory is NaN
ALIGNMENT = 256  # of what cudaMalloc returns, and of what TensorRT wants tensors to be at
INVALID_VALUE, OUT_OF_MEMORY, INVALID_HANDLE, NOT_READY, ILLEGAL_ADDRESS = 1, 2, 400, 600, 700
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 900, 901


class CudaFailure(Exception):
    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


class Memory:
    """One allocation; `bytes` is its content."""

    def __init__(self, kind: str, size: int, device: int):
        store = np.full(size + ALIGNMENT, POISON[kind], np.uint8)
        start = -store.ctypes.data % ALIGNMENT
        self.kind, self.size, self.device = kind, size, device
        self.bytes = store[start:start + size]
        self.address = self.bytes.ctypes.data


class Task:
    """A piece of work on a stream, or a wait for one of another. `context` is a weak reference to TensorRT's, where it
    executes one."""

    def __init__(self, stream: Stream, work: Optional[Callable[[], None]] = None, wait_for: Optional[Task] = None,
                 context: Any = None):
        self.stream, self.work, self.wait_for, self.context = stream, work, wait_for, context
        self.done, self.time = False, 0.0


class Stream:
    def __init__(self, device: int, blocking: bool):
        self.device, self.blocking = device, blocking
        self.queue: Deque[Task] = collections.deque()
        self.capture: Optional[Capture] = None


class Event:
    def __init__(self, device: int, timed: bool):
        self.device, self.timed = device, timed
        self.record: Optional[Task] = None
        self.capture: Optional[Capture] = None  # it was recorded in one, and says nothing outside it


class Capture:
    """What a stream does between BeginCapture and EndCapture; it is not done, but kept."""

    def __init__(self, mode: int):
        self.mode, self.thread, self.valid = mode, threading.get_ident(), True
        self.tasks: List[Task] = []


class Graph:
    def __init__(self, tasks: List[Task]):
        self.tasks = tasks


class Executable:
    """An instantiated graph; it does not need the graph any more."""

    def __init__(self, graph: Graph):
        self.tasks = list(graph.tasks)


class State:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        self.numbers = itertools.count(0x7000, 0x10)  # handles; no number is used twice
        self.handles: Dict[int, Any] = {}
        self.memory: Dict[int, Memory] = {}
        self.freed: Deque[Memory] = collections.deque(maxlen=16)  # kept, so that reading one is no crash but poison
        self.orphans: List[Stream] = []  # destroyed before their work was done
        self.defaults = [Stream(device, True) for device in range(machine().devices)]
        self.opened: Set[int] = set()  # devices with a context of this process, which takes some of their memory
        self.sticky = 0  # after a kernel failed, every call returns this, until the process ends
        self.thread = threading.local()
        self.dice = random.Random(machine().seed)
        self.objects: weakref.WeakSet = weakref.WeakSet()  # TensorRT's
        self.pageable = 0  # asynchronous copies from or to memory that is not pinned: they are not asynchronous

    @property
    def device(self) -> int:
        """Of this thread. Every thread starts at 0."""
        return getattr(self.thread, "device", 0)

    def add(self, thing: Any) -> int:
        number = next(self.numbers)
        self.handles[number] = thing
        return number

    def get(self, handle: Any, kind: type) -> Any:
        thing = self.handles.get(int(handle))
        if not isinstance(thing, kind):
            raise CudaFailure(INVALID_HANDLE)
        return thing

    def stream(self, handle: Any) -> Stream:
        return self.defaults[self.device] if int(handle) == 0 else self.get(handle, Stream)

    def find(self, address: int) -> Optional[Memory]:
        """The allocation that an address lies in."""
        return self.memory.get(address) or next(
            (memory for memory in self.memory.values()
             if memory.address <= address < memory.address + memory.size), None)

    def window(self, address: int, size: int, kind: str) -> np.ndarray:
        """`size` bytes of live memory from `address`."""
        memory = self.find(address)
        if memory is None or memory.kind != kind or address + size > memory.address + memory.size:
            raise CudaFailure(ILLEGAL_ADDRESS)
        return memory.bytes[address - memory.address:][:size]

    def streams(self) -> List[Stream]:
        return [*self.defaults, *self.orphans,
                *(thing for thing in self.handles.values() if isinstance(thing, Stream))]

    def used(self, device: int) -> int:
        """Bytes of device memory, those of TensorRT's contexts included."""
        return sum(memory.size for memory in self.memory.values()
                   if memory.kind == DEVICE and memory.device == device) + \
            sum(getattr(thing, "workspace", 0) for thing in self.objects if thing.device == device)

    def leaks(self) -> Dict[str, int]:
        """What is still open, by kind."""
        gc.collect()
        found = Counter(type(thing).__name__ for thing in (*self.handles.values(), *self.objects))
        found.update(memory.kind for memory in self.memory.values())
        return dict(sorted(found.items()))


STATE = State()
at_exit(STATE.leaks)


def submit(task: Task) -> None:
    stream = task.stream
    if stream.capture is not None:
        stream.capture.tasks.append(task)
        return
    if stream.blocking:  # the default stream and all other blocking ones wait for each other
        first = stream in STATE.defaults
        for other in STATE.streams():
            if other.blocking and other is not stream and other.queue and (first or other in STATE.defaults):
                stream.queue.append(Task(stream, wait_for=other.queue[-1]))
    stream.queue.append(task)
    if machine().schedule == "eager":
        finish(task)
    elif machine().schedule == "shuffle":
        shuffle()


def finish(task: Task) -> None:
    """Do what is needed for this task to be done: everything before it on its stream, and what that waits for."""
    while not task.done:
        head = task.stream.queue[0]
        if head.wait_for is not None:
            finish(head.wait_for)
        _run(task.stream.queue.popleft())


def _run(task: Task) -> None:
    try:
        if task.work is not None and not STATE.sticky:
            task.work()
    except CudaFailure as failure:
        STATE.sticky = failure.code
    task.done, task.time = True, time.perf_counter()


def shuffle() -> None:
    """Let random streams advance by random numbers of tasks, as far as events allow."""
    for _ in range(STATE.dice.randrange(4)):
        ready = [stream for stream in STATE.streams()
                 if stream.queue and (stream.queue[0].wait_for is None or stream.queue[0].wait_for.done)]
        if ready:
            _run(STATE.dice.choice(ready).queue.popleft())


def drain(stream: Stream) -> None:
    if stream.queue:
        finish(stream.queue[-1])


def drain_all() -> None:
    for stream in STATE.streams():
        drain(stream)


def busy_elsewhere(context: Any, stream: Stream) -> bool:
    """Whether an execution of this context is still under way on another stream."""
    return any(task.context is not None and task.context() is context for other in STATE.streams()
               if other is not stream for task in other.queue)
