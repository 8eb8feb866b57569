"""Contexts, streams and events, and when asynchronous work is really done.

Work handed to a stream is done in its order, but a program must not rely on when. `schedule` of the configuration
says:

    late     only when something waits for it: a missing wait reads what was there before
    eager    at once
    shuffle  at random moments (`seed`), other streams included: work that may overtake will overtake
"""
from __future__ import annotations

import collections
import time
from typing import Any, Callable, Deque, List, Optional

from ..machine import machine
from . import codes
from .codes import AclError
from .state import STATE


class Task:
    """A piece of work on a stream. A `wait_for` has no work of its own."""

    def __init__(self, stream: Stream, work: Optional[Callable[[], None]] = None, wait_for: Optional[Task] = None,
                 model: Optional[int] = None):
        self.stream, self.work, self.wait_for, self.model = stream, work, wait_for, model
        self.done = False
        self.time = 0.0


class Stream:
    def __init__(self, context: Context):
        self.context = context
        self.queue: Deque[Task] = collections.deque()
        self.error: Optional[AclError] = None  # of the work since the last synchronisation


class Event:
    def __init__(self, context: Context):
        self.context = context
        self.record: Optional[Task] = None


class Context:
    """`default` is the one that set_device makes; it belongs to the device and is no handle of the program."""

    def __init__(self, device: int):
        self.device, self.alive = device, True
        self.default_stream = Stream(self)


def streams_of(device: int) -> List[Stream]:
    handles = list(STATE.handles.values())  # at once: other threads make and free handles meanwhile
    contexts = [context for context in (*STATE.devices.values(), *handles)
                if isinstance(context, Context) and context.device == device]
    return [context.default_stream for context in contexts] + [
        stream for stream in handles if isinstance(stream, Stream) and stream.context.device == device]


def stream_of(handle: int) -> Stream:
    """The stream of a call: 0 is the default stream of the thread's context, others must belong to it."""
    context = STATE.current()
    if handle == 0:
        return context.default_stream
    stream = STATE.get(handle, Stream, codes.RT_PARAM)
    if stream.context is not context:
        raise AclError(codes.RT_OTHER_CONTEXT, "EE1001: the stream belongs to another context")
    return stream


def submit(task: Task) -> Task:
    with STATE.lock:
        task.stream.queue.append(task)
        if machine().schedule == "eager":
            finish(task)
        elif machine().schedule == "shuffle":
            _shuffle(task.stream.context.device)
    return task


def finish(task: Task) -> None:
    """Do what is needed for this task to be done: everything before it on its stream, and what that waits for."""
    with STATE.lock:
        while not task.done:
            head = task.stream.queue[0]
            if head.wait_for is not None:
                finish(head.wait_for)
            _run(task.stream.queue.popleft())


def _run(task: Task) -> None:
    try:
        if task.work is not None:
            task.work()
    except AclError as error:
        task.stream.error = task.stream.error or error
    task.done, task.time = True, time.perf_counter()


def _shuffle(device: int) -> None:
    """Let random streams advance by random numbers of tasks, as far as events allow."""
    for _ in range(STATE.dice.randrange(4)):
        ready = [stream for stream in streams_of(device)
                 if stream.queue and (stream.queue[0].wait_for is None or stream.queue[0].wait_for.done)]
        if ready:
            _run(STATE.dice.choice(ready).queue.popleft())


def drain(stream: Stream) -> None:
    """Do all work of a stream, and raise the first failure in it."""
    with STATE.lock:
        if machine().schedule == "shuffle":
            _shuffle(stream.context.device)
        if stream.queue:
            finish(stream.queue[-1])
        error, stream.error = stream.error, None
    if error is not None:
        raise error


def busy_elsewhere(model: int, stream: Any) -> bool:
    """Whether an execution of this model is still under way on another stream than this one."""
    return any(task.model == model for device in STATE.devices for other in streams_of(device) if other is not stream
               for task in other.queue)
