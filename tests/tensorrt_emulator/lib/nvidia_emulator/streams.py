"""Streams, events and graphs of the CUDA runtime."""
from __future__ import annotations

import threading
from typing import Any

from . import codes
from .calls import api, enter, raise_lost
from .codes import cudaError_t
from .device import (
    CAPTURE_INVALIDATED,
    CAPTURE_UNSUPPORTED,
    INVALID_HANDLE,
    INVALID_VALUE,
    NOT_READY,
    STATE,
    Capture,
    CudaFailure,
    Event,
    Executable,
    Graph,
    Stream,
    Task,
    drain,
    finish,
    submit,
)


@api(1)
def cudaStreamCreateWithFlags(flags: int) -> Any:
    return codes.cudaStream_t(STATE.add(Stream(STATE.device, not flags & codes.cudaStreamNonBlocking)))


@api()
def cudaStreamDestroy(stream: Any) -> None:
    """Its work is still done."""
    STATE.orphans.append(STATE.get(stream, Stream))
    del STATE.handles[int(stream)]


@api()
def cudaStreamSynchronize(stream: Any) -> None:
    queue = STATE.stream(stream)
    if queue.capture is not None:
        queue.capture.valid = False
        raise CudaFailure(CAPTURE_UNSUPPORTED)
    drain(queue)
    raise_lost()


@api()
def cudaStreamWaitEvent(stream: Any, event: Any, flags: int) -> None:
    """Waits for what was recorded so far; for an event that was never recorded it waits for nothing."""
    queue, mark = STATE.stream(stream), STATE.get(event, Event)
    if mark.capture is not queue.capture:
        for capture in filter(None, (mark.capture, queue.capture)):
            capture.valid = False  # one stream a capture is all that is known here
        raise CudaFailure(cudaError_t.cudaErrorStreamCaptureIsolation)
    if mark.record is not None and queue.capture is None:
        submit(Task(queue, wait_for=mark.record))


@api(1)
def cudaEventCreate() -> Any:
    return codes.cudaEvent_t(STATE.add(Event(STATE.device, True)))


@api(1)
def cudaEventCreateWithFlags(flags: int) -> Any:
    return codes.cudaEvent_t(STATE.add(Event(STATE.device, not flags & codes.cudaEventDisableTiming)))


@api()
def cudaEventDestroy(event: Any) -> None:
    STATE.get(event, Event)
    del STATE.handles[int(event)]


@api()
def cudaEventRecord(event: Any, stream: Any) -> None:
    mark, queue = STATE.get(event, Event), STATE.stream(stream)
    if mark.device != queue.device:
        raise CudaFailure(INVALID_HANDLE)
    mark.record, mark.capture = Task(queue), queue.capture
    submit(mark.record)


@api()
def cudaEventSynchronize(event: Any) -> None:
    mark = STATE.get(event, Event)
    _no_capture(mark)
    if mark.record is not None:
        finish(mark.record)
    raise_lost()


def _no_capture(mark: Event) -> None:
    if mark.capture is not None:
        mark.capture.valid = False
        raise CudaFailure(cudaError_t.cudaErrorCapturedEvent)


@api(unsafe=True)
def cudaEventQuery(event: Any) -> None:
    mark = STATE.get(event, Event)
    _no_capture(mark)
    if mark.record is not None and not mark.record.done:
        raise CudaFailure(NOT_READY)


@api(1)
def cudaEventElapsedTime(start: Any, end: Any) -> float:
    """Milliseconds of the host's clock between the two being reached."""
    first, last = STATE.get(start, Event), STATE.get(end, Event)
    if not (first.timed and last.timed and first.record and last.record):
        raise CudaFailure(INVALID_HANDLE)
    if not (first.record.done and last.record.done):
        raise CudaFailure(NOT_READY)
    return 1000 * (last.record.time - first.record.time)


@api()
def cudaStreamBeginCapture(stream: Any, mode: Any) -> None:
    queue = STATE.stream(stream)
    if queue in STATE.defaults:
        raise CudaFailure(CAPTURE_UNSUPPORTED)
    if queue.capture is not None:
        raise CudaFailure(INVALID_VALUE)
    queue.capture = Capture(int(codes.cudaStreamCaptureMode(mode)))


@api(1, counted=False)
def cudaStreamEndCapture(stream: Any) -> Any:
    """Ends it also where it fails."""
    queue = STATE.stream(stream)
    capture, queue.capture = queue.capture, None
    enter("cudaStreamEndCapture")
    if capture is None:
        raise CudaFailure(cudaError_t.cudaErrorStreamCaptureUnmatched)
    if capture.thread != threading.get_ident():
        raise CudaFailure(cudaError_t.cudaErrorStreamCaptureWrongThread)
    if not capture.valid:
        raise CudaFailure(CAPTURE_INVALIDATED)
    return codes.cudaGraph_t(STATE.add(Graph(capture.tasks)))


@api(1)
def cudaGraphInstantiate(graph: Any, flags: int) -> Any:
    return codes.cudaGraphExec_t(STATE.add(Executable(STATE.get(graph, Graph))))


@api()
def cudaGraphLaunch(graph_exec: Any, stream: Any) -> None:
    """What was captured, again: with the shapes and addresses of that time."""
    queue = STATE.stream(stream)
    for task in STATE.get(graph_exec, Executable).tasks:
        submit(Task(queue, task.work, task.wait_for, task.context))


@api()
def cudaGraphDestroy(graph: Any) -> None:
    STATE.get(graph, Graph)
    del STATE.handles[int(graph)]


@api()
def cudaGraphExecDestroy(graph_exec: Any) -> None:
    STATE.get(graph_exec, Executable)
    del STATE.handles[int(graph_exec)]
