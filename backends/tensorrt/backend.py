"""An engine of TensorRT on an NVIDIA GPU."""
from __future__ import annotations

import contextlib
import ctypes
import os
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from backends.tensorrt import bindings, cuda, engine_record
from backends.tensorrt.engine import Engine, Tensor
from backends.tensorrt.execution import Execution
from backends.tensorrt.options import ROOM
from contract.backend import check_one_output
from contract.errors import UserError
from contract.files import PathLike

SLOTS = 3  # batches in flight: one is filled or copied in while one is computed and one is copied out
EXECUTIONS = 2  # batch sizes that a slot keeps a context and a graph for: the usual one and that of a rest


class Slot(NamedTuple):
    """Memory of one batch in flight, and its events."""

    device: Dict[str, int]  # addresses by tensor
    host_input: int
    host_output: int
    input_rows: np.ndarray  # views of the host's memory, of the largest batch
    output_rows: np.ndarray
    arrived: Any
    started: Any
    computed: Any
    copied: Any
    executions: List[Execution]  # the last used one last


class Backend:
    """An engine with one input and one output, given as float32. With a profile the batch is None, and any
    number is taken, the largest batch at a time.

    `infer` may be called from `slots` threads at once: copies of one batch then overlap the computing of another.
    `times` has the milliseconds that each call took on the device, copies left out.
    """

    def __init__(self, model: PathLike, device: Optional[str] = None, spec: Any = None, cuda_graph: bool = True):
        self.model, self.device, self.cuda_graph = os.fspath(model), cuda.parse_device(device), cuda_graph
        if not os.path.isfile(model):
            raise UserError(f"{model}: no such model file")
        self.times: List[float] = []
        # Objects of TensorRT belong to one thread, and infer() comes from many: from the first caller's for a warm-up,
        # then from a pool's, and close() from a third. So the backend has a thread of its own, which makes, uses and
        # frees them. Callers only fill and empty their slot's memory, and wait for its event.
        with contextlib.ExitStack() as opened:
            self.owner = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="tensorrt"))
            self.resources = contextlib.ExitStack()
            opened.callback(self._owned, self.resources.close)
            self._owned(self._open)
            self.opened = opened.pop_all()

    def _owned(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return self.owner.submit(work, *arguments).result()

    def _open(self) -> None:
        cuda.open_device(self.device)  # before anything of TensorRT: without CUDA its runtime ends the process
        tensorrt = bindings.load()
        self.machine, self.facts = engine_record.describe_machine(tensorrt, self.device), engine_record.read(self.model)
        engine_record.check(self.model, self.facts, self.machine)
        flags = cuda.runtime().cudaStreamNonBlocking  # the default stream would wait for them, and they for it
        self.copy_in, self.compute, self.copy_out = (
            self._own("cudaStreamDestroy", cuda.call("cudaStreamCreateWithFlags", flags)) for _ in range(3))
        self.resources.callback(setattr, self, "engine", None)
        self.logger = bindings.make_logger(tensorrt)
        self.engine = Engine(tensorrt, self.logger, self.model, int(self.compute))
        self._describe_tensors()
        self._make_slots()

    def _own(self, release: str, value: Any) -> Any:
        """`value`, which close() releases. Codes of releases are left alone: when one fails the GPU is lost, and the
        others must still be tried."""
        self.resources.callback(getattr(cuda.runtime(), release), value)
        return value

    def _describe_tensors(self) -> None:
        check_one_output(self.model, {tensor.name: tensor.shape for tensor in self.engine.outputs})
        self.input, self.output = self.engine.input, self.engine.outputs[0]
        self.largest, self.smallest = self.input.shape[0], self.engine.smallest
        self.input_dtype = self.input.dtype
        batch = self.largest if self.smallest == self.largest else None
        self.input_shape, self.output_shape = (batch, *self.input.shape[1:]), (batch, *self.output.shape[1:])

    def _make_slots(self) -> None:
        """As many as there are contexts for, at least the one that the engine has made already."""
        self.free_slots: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(SLOTS):
            context = self.engine.new_context()
            if context is None:
                break
            try:
                slot = self._make_slot()
            except UserError:
                if self.free_slots.empty():
                    raise
                break  # memory is short: fewer batches in flight
            slot.executions.append(Execution(self.engine, context, slot.device, self.cuda_graph))
            self.free_slots.put(slot)
        self.slots = self.free_slots.qsize()

    def _make_slot(self) -> Slot:
        """Device memory for every tensor, pinned memory for the two that are copied."""
        device = {tensor.name: self._own("cudaFree", cuda.call("cudaMalloc", tensor.bytes()))
                  for tensor in (self.input, *self.engine.outputs)}
        flags = cuda.runtime().cudaHostAllocDefault
        host_input, host_output = (
            self._own("cudaFreeHost", cuda.call("cudaHostAlloc", tensor.bytes(), flags))
            for tensor in (self.input, self.output))
        timed, untimed = cuda.runtime().cudaEventDefault, cuda.runtime().cudaEventDisableTiming
        waited = untimed | cuda.runtime().cudaEventBlockingSync  # the thread sleeps instead of spinning
        arrived, started, computed, copied = (
            self._own("cudaEventDestroy", cuda.call("cudaEventCreateWithFlags", flags))
            for flags in (untimed, timed, timed, waited))
        executions: List[Execution] = []
        self.resources.callback(_close_executions, executions)
        return Slot(device, host_input, host_output, _view(host_input, self.input), _view(host_output, self.output),
                    arrived, started, computed, copied, executions)

    def infer(self, rows: np.ndarray) -> np.ndarray:
        """The output of exactly one batch; with a profile, of any number of rows."""
        if self.input_shape[0] is not None and len(rows) != self.largest:
            raise UserError(f"{self.model}: takes {self.largest} rows at a time, got {len(rows)}")
        parts, times = zip(*(self._infer(rows[start:start + self.largest])
                             for start in range(0, len(rows), self.largest)))
        self.times.append(sum(times))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _infer(self, rows: np.ndarray) -> Tuple[np.ndarray, float]:
        """Heatmaps, and the milliseconds that the device computed."""
        size = max(len(rows), self.smallest)  # what fills up is left of an earlier batch, and nobody sees its results
        slot = self.free_slots.get()
        try:
            np.copyto(slot.input_rows[:len(rows)], rows, casting="same_kind")
            self._owned(self._submit, slot, size)
            cuda.call("cudaSetDevice", self.device)  # or waiting would open GPU 0 in this thread as well
            cuda.call("cudaEventSynchronize", slot.copied)
            milliseconds = cuda.call("cudaEventElapsedTime", slot.started, slot.computed)
            return slot.output_rows[:len(rows)].astype(np.float32), milliseconds  # a copy: the slot is used again
        except BaseException:
            self._owned(self._drain)  # what was submitted still uses the slot
            raise
        finally:
            self.free_slots.put(slot)

    def _submit(self, slot: Slot, size: int) -> None:
        """Copy in, compute and copy out, on a stream each; returns before any of it is done."""
        execution, kinds = self._execution(slot, size), cuda.runtime().cudaMemcpyKind
        execution.prepare(self.compute)
        cuda.call("cudaMemcpyAsync", slot.device[self.input.name], slot.host_input, size * self.input.row_bytes(),
                  kinds.cudaMemcpyHostToDevice, self.copy_in)
        cuda.call("cudaEventRecord", slot.arrived, self.copy_in)
        cuda.call("cudaStreamWaitEvent", self.compute, slot.arrived, 0)
        cuda.call("cudaEventRecord", slot.started, self.compute)
        execution.run(self.compute)
        cuda.call("cudaEventRecord", slot.computed, self.compute)
        cuda.call("cudaStreamWaitEvent", self.copy_out, slot.computed, 0)
        cuda.call("cudaMemcpyAsync", slot.host_output, slot.device[self.output.name], size * self.output.row_bytes(),
                  kinds.cudaMemcpyDeviceToHost, self.copy_out)
        cuda.call("cudaEventRecord", slot.copied, self.copy_out)

    def _execution(self, slot: Slot, size: int) -> Execution:
        """The slot's execution of this batch: one that has it, a new one, or the one that was not used for longest."""
        execution = next((execution for execution in slot.executions if execution.rows in (size, 0)), None)
        if execution is None:
            context = self.engine.new_context() if len(slot.executions) < EXECUTIONS else None
            execution = Execution(self.engine, context, slot.device, self.cuda_graph) if context else slot.executions[0]
        if execution.rows != size:
            execution.set_batch(size)
        slot.executions[:] = [*(other for other in slot.executions if other is not execution), execution]
        return execution

    def _drain(self) -> None:
        for stream in (self.copy_in, self.compute, self.copy_out):
            cuda.runtime().cudaStreamSynchronize(stream)

    def describe(self) -> dict:
        return {"device": self.machine["gpu"], **ROOM.precision(self.facts.get("precision")),
                "tf32": self.facts.get("tf32"), "tensorrt": self.machine["tensorrt"],
                "emulated": self.machine["emulated"]}

    def close(self) -> None:
        """Release the engine. All warnings of TensorRT, from loading the engine on, are then in MODEL.inference.log."""
        self.opened.close()
        bindings.report(self.logger, f"{self.model}.inference.log")


def is_emulated() -> bool:
    """Whether the GPU is that of the tests' emulator. False without TensorRT."""
    try:
        return bindings.is_emulated(bindings.load())
    except UserError:
        return False


def _close_executions(executions: List[Execution]) -> None:
    for execution in executions:
        execution.close()
    executions.clear()


def _view(address: int, tensor: Tensor) -> np.ndarray:
    """Pinned memory as an array of the tensor's shape."""
    memory = (ctypes.c_uint8 * tensor.bytes()).from_address(address)
    return np.frombuffer(memory, tensor.dtype).reshape(tensor.shape)  # type: ignore[call-overload]
