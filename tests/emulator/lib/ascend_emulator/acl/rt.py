"""acl.rt: devices, contexts, streams, events; memory is in rt_memory.py."""
from __future__ import annotations

import os
import time
from typing import List

from ..machine import machine
from . import codes
from .codes import AclError
from .rt_memory import *  # noqa: F403  the public calls
from .state import NOTHING, STATE, api
from .streams import Context, Event, Stream, Task, drain, finish, stream_of, streams_of, submit

HOST_MODE = 1
SATURATION, INF_NAN = 0, 1
COMPLETE, NOT_READY = 0, 1


def visible_devices() -> List[int]:
    """The devices that ASCEND_RT_VISIBLE_DEVICES leaves: ascending, cut at the first number that is not one."""
    text, chosen = os.environ.get("ASCEND_RT_VISIBLE_DEVICES"), []
    if text is None:
        return list(range(machine().devices))
    for part in text.split(" ")[0].split(","):
        if not part.isdigit() or int(part) >= machine().devices or (chosen and int(part) <= chosen[-1]):
            break
        chosen.append(int(part))
    return chosen


def _device(number: int) -> int:
    if not 0 <= number < len(visible_devices()):
        raise AclError(codes.RT_DEVICE, f"EE1001: device {number} is not one of 0 to {len(visible_devices()) - 1}")
    return number


@api("ret")
def set_device(device: int) -> object:
    context = STATE.devices.setdefault(_device(device), Context(device))
    STATE.device_users[device] += 1
    STATE.thread.context = context
    return NOTHING


@api("ret")
def reset_device(device: int) -> object:
    """The last one of as many as there were set_device: what is still open on the device goes with it, and stays a
    leak for aclFinalize."""
    if _device(device) not in STATE.devices:
        raise AclError(codes.RT_DEVICE, f"EE1001: device {device} was not set")
    STATE.device_users[device] -= 1
    if STATE.device_users[device] > 0:
        return NOTHING
    STATE.devices.pop(device).alive = False
    for context in [thing for thing in STATE.handles.values() if isinstance(thing, Context)]:
        context.alive = context.alive and context.device != device
    return NOTHING


@api("value")
def get_device() -> int:
    return STATE.current().device


@api("value", 0)
def get_device_count() -> int:
    return len(visible_devices())


@api("value")
def get_run_mode() -> int:
    return HOST_MODE


@api("ret")
def set_device_sat_mode(mode: int) -> object:
    context = STATE.current()
    if mode not in (SATURATION, INF_NAN):
        raise AclError(codes.RT_PARAM, f"EE1001: overflow mode {mode} is not 0 or 1")
    if mode == INF_NAN and machine().chip.short in ("Ascend310", "Ascend310P", "Ascend310B", "Ascend910"):
        raise AclError(codes.NOT_SUPPORTED, f"EE1001: {machine().soc} has only the saturation mode")
    context.sat_mode = mode
    return NOTHING


@api("value", 0)
def create_context(device: int) -> int:
    if _device(device) not in STATE.devices:
        STATE.devices[device] = Context(device)
    handle = STATE.add(Context(device))
    STATE.thread.context = STATE.handles[handle]
    return handle


@api("ret")
def set_context(context: int) -> object:
    STATE.thread.context = STATE.get(context, Context, codes.RT_CONTEXT)
    STATE.current()
    return NOTHING


@api("value", 0)
def get_context() -> int:
    context = STATE.current()
    return getattr(context, "handle", 0) or DEFAULT_CONTEXTS + context.device


DEFAULT_CONTEXTS = 0x10  # contexts that set_device made are no handles of the program


@api("ret")
def destroy_context(context: int) -> object:
    STATE.drop(context, Context, codes.RT_CONTEXT).alive = False
    return NOTHING


@api("value", 0)
def create_stream() -> int:
    return STATE.add(Stream(STATE.current()))


@api("value", 0)
def create_stream_with_config(priority: int, flag: int) -> int:
    if not 0 <= priority <= 7 or flag not in (0, 1, 2, 3):
        raise AclError(codes.RT_PARAM, f"EE1001: stream priority {priority} or flag {flag} is not one")
    return STATE.add(Stream(STATE.current()))


@api("ret")
def destroy_stream(stream: int) -> object:
    """Work that is still on it is done first, as the runtime does it."""
    thing = STATE.get(stream, Stream, codes.RT_PARAM)
    try:
        drain(thing)
    finally:
        STATE.handles.pop(stream)
    return NOTHING


@api("ret")
def synchronize_stream(stream: int) -> object:
    drain(stream_of(stream))
    return NOTHING


@api("ret")
def synchronize_stream_with_timeout(stream: int, milliseconds: int) -> object:
    """Times out when the work took longer, which it has by then done."""
    start = time.perf_counter()
    drain(stream_of(stream))
    if 0 <= milliseconds < 1000 * (time.perf_counter() - start):
        raise AclError(codes.STREAM_TIMEOUT, f"EE1002: stream synchronise timeout after {milliseconds} ms")
    return NOTHING


@api("value")
def stream_query(stream: int) -> int:
    return NOT_READY if stream_of(stream).queue else COMPLETE


@api("ret")
def synchronize_device() -> object:
    for stream in streams_of(STATE.current().device):
        drain(stream)
    return NOTHING


@api("value", 0)
def create_event() -> int:
    return STATE.add(Event(STATE.current()))


@api("ret")
def destroy_event(event: int) -> object:
    STATE.drop(event, Event, codes.RT_PARAM)
    return NOTHING


def _event(handle: int) -> Event:
    event = STATE.get(handle, Event, codes.RT_PARAM)
    if event.context is not STATE.current():
        raise AclError(codes.RT_OTHER_CONTEXT, "EE1001: the event belongs to another context")
    return event


@api("ret")
def record_event(event: int, stream: int) -> object:
    record = Task(stream_of(stream))
    _event(event).record = record
    submit(record)
    return NOTHING


@api("ret")
def stream_wait_event(stream: int, event: int) -> object:
    """The stream waits for the record that the event has now; none means no wait."""
    record = _event(event).record
    if record is not None:
        submit(Task(stream_of(stream), wait_for=record))
    return NOTHING


@api("ret")
def synchronize_event(event: int) -> object:
    record = _event(event).record
    if record is not None:
        finish(record)
        if record.stream.error is not None:
            raise record.stream.error
    return NOTHING


@api("value")
def query_event_status(event: int) -> int:
    record = _event(event).record
    return COMPLETE if record is None or record.done else NOT_READY


@api("value", 0.0)
def event_elapsed_time(start: int, end: int) -> float:
    """Milliseconds between two records that are done."""
    records = [_event(start).record, _event(end).record]
    if any(record is None or not record.done for record in records):
        raise AclError(codes.RT_PARAM, "EE1001: an event was not recorded or its work is not done")
    return 1000 * (records[1].time - records[0].time)
