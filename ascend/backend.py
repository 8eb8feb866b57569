"""An .om on an Ascend NPU through pyACL: no ais_bench and no package but CANN's own."""
from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import threading
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import numpy as np

from ascend import cann
from ascend.options import ROOM
from ascend.pyacl import (
    DEVICE_TO_HOST,
    HOST_TO_DEVICE,
    HUGE_PAGES_FIRST,
    NUMPY_TYPES,
    call,
    close_device,
    emulated,
    module,
    open_device,
)
from contract.backend import check_one_output
from contract.errors import UserError
from contract.files import PathLike, read_json

SLOTS = 3  # batches in flight: one is copied in while one is computed and one is copied out
SIDECAR = ".json"  # appended to the .om's name: how python3 -m ascend.atc built it
GEAR_INPUT = "ascend_mbatch_shape_data"  # hidden input of a model with dynamic batch: which gear it runs at


class Tensor(NamedTuple):
    """An input or output of the model, at its largest gear."""

    shape: Tuple[int, ...]
    dtype: np.dtype
    size: int  # bytes of its device buffer

    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize


class Slot(NamedTuple):
    """Memory of one batch in flight."""

    inputs: int  # datasets
    outputs: int
    device_input: int  # addresses
    device_output: int
    host_input: int
    host_output: int
    input_rows: np.ndarray  # views of the host's memory, of the largest gear
    output_rows: np.ndarray


class Backend:
    """An .om with one input and one output. With gears the batch is None and any number is taken.

    `infer` may be called from SLOTS threads at once: copies of one batch then overlap the computing of another.
    `times` has the milliseconds that each call took on the device, copies left out.
    """

    slots = SLOTS

    def __init__(self, model: PathLike, device: Optional[str] = None, spec: Any = None):
        if not str(device or 0).isdigit():
            raise UserError(f"--device {device}: the acl backend takes the id of a device, such as 0")
        if not os.path.isfile(model):
            raise UserError(f"{model}: no such model file")
        self.model, self.device, self.times = os.fspath(model), int(device or 0), []  # type: ignore[var-annotated]
        self.computing = threading.Lock()  # the calls that submit a batch stay together
        self.acl, self.built = module(), self._read_record()
        with contextlib.ExitStack() as resources:
            self._open(resources)
            self.resources = resources.pop_all()

    def _read_record(self) -> dict:
        """How the .om was built, empty where nothing says. An emulated device takes only what was built for one."""
        path = self.model + SIDECAR
        built = read_json(path, "build record") if os.path.exists(path) else {}
        if not isinstance(built, dict):
            raise UserError(f"{path}: expected the record that python3 -m ascend.atc writes. Remove it, or build the "
                            ".om again")
        if built.get("emulated", emulated()) != emulated():
            maker, here = ("the emulator of the tests", "a real one") if built["emulated"] else ("atc", "emulated")
            raise UserError(f"{self.model}: {maker} made it, and the device here is {here}. Build it here: python3 -m "
                            "ascend.atc")
        return built

    def _own(self, resources: contextlib.ExitStack, release: Callable[..., int], value: Any, *more: Any) -> Any:
        """`value`, which close() releases. Return codes of releases are left alone: when one fails the device is
        gone, and the others must still be tried."""
        resources.callback(release, value, *more)
        return value

    def _open(self, resources: contextlib.ExitStack) -> None:
        rt, mdl = self.acl.rt, self.acl.mdl
        open_device(self.device)
        resources.callback(close_device, self.device)
        self.context = self._own(resources, rt.destroy_context, call("rt.create_context", self.device))
        self.copy_in, self.compute, self.copy_out = (
            self._own(resources, rt.destroy_stream, call("rt.create_stream")) for _ in range(3))
        self.model_id = self._own(resources, mdl.unload, self._load())
        self.description = self._own(resources, mdl.destroy_desc, mdl.create_desc())
        call("mdl.get_desc", self.description, self.model_id)
        self._read_description()
        self.free_slots: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(SLOTS):
            self.free_slots.put(self._make_slot(resources))
        resources.callback(self._drain)  # nothing may run on memory that is freed
        resources.callback(rt.set_context, self.context)  # first of all: close() may come from any thread

    def _load(self) -> int:
        try:
            return call("mdl.load_from_file", self.model)
        except UserError as error:
            raise UserError(f"{self.model}: {error}") from None

    def _read_description(self) -> None:
        """Shapes, data types and gears. Raises UserError for a model of several inputs or of dynamic shape."""
        mdl, description = self.acl.mdl, self.description
        self.gears: List[int] = sorted(call("mdl.get_dynamic_batch", description).get("batch", []))
        inputs = range(mdl.get_num_inputs(description))
        self.gear_index = call("mdl.get_input_index_by_name", description, GEAR_INPUT) if self.gears else None
        data = [index for index in inputs if index != self.gear_index]
        if len(data) != 1:
            raise UserError(f"{self.model}: expected one input, got {len(data)}")
        self.input_index = data[0]
        self.input = self._tensor("input", self.input_index)
        check_one_output(self.model, {mdl.get_output_name_by_index(description, index):
                                      self._tensor("output", index).shape
                                      for index in range(mdl.get_num_outputs(description))})
        self.output = self._tensor("output", 0)
        self.rows_lent = self.input.shape[0]  # the batch, or the largest gear
        # The float16 input of a model for float16 hosts is filled from float32 rows.
        self.input_dtype = np.dtype(np.uint8 if self.input.dtype == np.uint8 else np.float32)
        batch = None if self.gears else self.input.shape[0]
        self.input_shape, self.output_shape = (batch, *self.input.shape[1:]), (batch, *self.output.shape[1:])

    def _tensor(self, what: str, index: int) -> Tensor:
        mdl = self.acl.mdl
        shape = tuple(call(f"mdl.get_{what}_dims", self.description, index)["dims"])
        if self.gears:
            shape = (self.gears[-1], *shape[1:])
        code = getattr(mdl, f"get_{what}_data_type")(self.description, index)
        size = getattr(mdl, f"get_{what}_size_by_index")(self.description, index)
        if min(shape) < 1 or code not in NUMPY_TYPES:
            raise UserError(f"{self.model}: {what} {index} is {shape} of ACL's data type {code}, expected a static "
                            "shape of a plain type. Build it with python3 -m ascend.atc")
        return Tensor(shape, np.dtype(NUMPY_TYPES[code]), size)

    def _make_slot(self, resources: contextlib.ExitStack) -> Slot:
        """Device buffers for every input and output, and pinned host memory for the two that are copied."""
        mdl = self.acl.mdl
        inputs, device_inputs = self._make_dataset(resources, "input", mdl.get_num_inputs(self.description))
        outputs, device_outputs = self._make_dataset(resources, "output", mdl.get_num_outputs(self.description))
        host_input, host_output = (
            self._own(resources, self.acl.rt.free_host, call("rt.malloc_host", tensor.size))
            for tensor in (self.input, self.output))
        return Slot(inputs, outputs, device_inputs[self.input_index], device_outputs[0], host_input, host_output,
                    _view(host_input, self.input), _view(host_output, self.output))

    def _make_dataset(self, resources: contextlib.ExitStack, what: str, count: int) -> Tuple[int, List[int]]:
        acl, addresses = self.acl, []
        dataset = self._own(resources, acl.mdl.destroy_dataset, acl.mdl.create_dataset())
        for index in range(count):
            size = getattr(acl.mdl, f"get_{what}_size_by_index")(self.description, index)
            address = self._own(resources, acl.rt.free, call("rt.malloc", size, HUGE_PAGES_FIRST))
            buffer = self._own(resources, acl.destroy_data_buffer, acl.create_data_buffer(address, size))
            call("mdl.add_dataset_buffer", dataset, buffer)
            addresses.append(address)
        return dataset, addresses

    def infer(self, rows: np.ndarray) -> np.ndarray:
        """Heatmaps of exactly the batch; with gears, of any number of rows."""
        largest = self.input.shape[0]
        if not self.gears and len(rows) != largest:
            raise UserError(f"{self.model}: takes {largest} rows at a time, got {len(rows)}")
        call("rt.set_context", self.context)  # of this thread
        parts, times = zip(*(self._infer(rows[start:start + largest]) for start in range(0, len(rows), largest)))
        self.times.append(sum(times))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def infer_from(self, count: int, fill: Callable[[np.ndarray], Any]) -> np.ndarray:
        """As `infer`, of `count` rows, at most `rows_lent`, which `fill` writes into an array (count,
        ...) of `input_dtype`: pinned memory that the device copies from."""
        def convert(memory: np.ndarray) -> None:
            rows = np.empty(memory.shape, self.input_dtype)
            fill(rows)
            np.copyto(memory, rows, casting="same_kind")

        call("rt.set_context", self.context)  # of this thread
        output, milliseconds = self._infer_from(count, fill if self.input.dtype == self.input_dtype else convert)
        self.times.append(milliseconds)
        return output

    def _infer(self, rows: np.ndarray) -> Tuple[np.ndarray, float]:
        return self._infer_from(len(rows), lambda memory: np.copyto(memory, rows, casting="same_kind"))

    def _infer_from(self, count: int, fill: Callable[[np.ndarray], Any]) -> Tuple[np.ndarray, float]:
        """The output of at most the largest gear, and the milliseconds that the device computed."""
        gear = next((gear for gear in self.gears if gear >= count), self.input.shape[0])
        slot = self.free_slots.get()
        try:
            fill(slot.input_rows[:count])
            slot.input_rows[count:gear] = slot.input_rows[0]  # padding, as ais_bench pads
            milliseconds = self._run(slot, gear)
            return slot.output_rows[:count].astype(np.float32), milliseconds  # a copy: the slot is used again
        finally:
            self.free_slots.put(slot)

    def _run(self, slot: Slot, rows: int) -> float:
        """Copy in, compute and copy out on a stream each; returns when the output is on the host, with the milliseconds
        of computing.

        The host waits for each batch's stream and not for an event, because only a stream reports what failed on it.
        Events are made for one batch: which of them must be reset before they can be recorded again, and which must
        not be, differs between releases of CANN.
        """
        input_bytes, output_bytes = rows * self.input.row_bytes(), rows * self.output.row_bytes()
        with contextlib.ExitStack() as events:
            arrived, started, computed = (
                self._own(events, self.acl.rt.destroy_event, call("rt.create_event")) for _ in range(3))
            try:
                call("rt.memcpy_async", slot.device_input, self.input.size, slot.host_input, input_bytes,
                     HOST_TO_DEVICE, self.copy_in)
                call("rt.record_event", arrived, self.copy_in)
                with self.computing:
                    call("rt.stream_wait_event", self.compute, arrived)
                    call("rt.record_event", started, self.compute)
                    if self.gears:
                        call("mdl.set_dynamic_batch_size", self.model_id, slot.inputs, self.gear_index, rows)
                    call("mdl.execute_async", self.model_id, slot.inputs, slot.outputs, self.compute)
                    call("rt.record_event", computed, self.compute)
                call("rt.synchronize_stream", self.compute)  # meanwhile the next batch is submitted
                milliseconds = call("rt.event_elapsed_time", started, computed)
                call("rt.memcpy_async", slot.host_output, self.output.size, slot.device_output, output_bytes,
                     DEVICE_TO_HOST, self.copy_out)
                call("rt.synchronize_stream", self.copy_out)
                return milliseconds
            except BaseException:
                self._drain()  # what was submitted still uses the events and the slot
                raise

    def _drain(self) -> None:
        for stream in (self.copy_in, self.compute, self.copy_out):
            self.acl.rt.synchronize_stream(stream)

    def describe(self) -> dict:
        return {"device": self.acl.get_soc_name(), **ROOM.precision(self.built.get("precision")),
                "cann": cann.version(), "emulated": emulated()}

    def close(self) -> None:
        self.resources.close()


def is_emulated() -> bool:
    """Whether the devices here are those of the tests' emulator; not where there is no pyACL."""
    try:
        return emulated()
    except UserError:
        return False


def _view(address: int, tensor: Tensor) -> np.ndarray:
    """Host memory that ACL allocated, as an array of the tensor's shape."""
    memory = (ctypes.c_uint8 * tensor.size).from_address(address)
    used = np.frombuffer(memoryview(memory), np.uint8, tensor.shape[0] * tensor.row_bytes())
    return used.view(tensor.dtype).reshape(tensor.shape)
