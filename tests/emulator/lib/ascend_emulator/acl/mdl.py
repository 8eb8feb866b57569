"""acl.mdl: data sets and executions; the rest of the module is in mdl_load.py and mdl_desc.py."""
from __future__ import annotations

from typing import Any, List, Optional, Tuple

import numpy as np

from .. import om
from . import codes
from .base import Buffer
from .codes import AclError
from .mdl_desc import *  # noqa: F403  the public calls
from .mdl_desc import inputs_of
from .mdl_load import *  # noqa: F403
from .mdl_load import Loaded, check_context, loaded_model
from .state import DEVICE, NOTHING, STATE, api
from .streams import Stream, Task, busy_elsewhere, stream_of, submit


class Dataset:
    def __init__(self) -> None:
        self.buffers: List[Buffer] = []
        self.handles: List[int] = []
        self.gear: Optional[int] = None


@api("bare", 0)
def create_dataset() -> int:
    return STATE.add(Dataset())


@api("ret")
def destroy_dataset(dataset: int) -> object:
    """The buffers in it stay, for the program to destroy."""
    STATE.drop(dataset, Dataset)
    return NOTHING


@api("value", 0)
def add_dataset_buffer(dataset: int, buffer: int) -> int:
    """The data set itself, as the wrapper returns it."""
    thing = STATE.get(dataset, Dataset)
    thing.buffers.append(STATE.get(buffer, Buffer))
    thing.handles.append(buffer)
    return dataset


@api("bare", 0)
def get_dataset_num_buffers(dataset: int) -> int:
    return len(STATE.get(dataset, Dataset).buffers)


@api("bare", 0)
def get_dataset_buffer(dataset: int, index: int) -> int:
    handles = STATE.get(dataset, Dataset).handles
    return handles[index] if 0 <= index < len(handles) else 0


def _memory(buffer: Buffer, needed: int, what: str) -> np.ndarray:
    """The bytes behind a buffer of a data set, which must be device memory of this device, live and large enough."""
    memory = STATE.find(buffer.address)
    if getattr(buffer, "handle", None) not in STATE.handles:
        raise AclError(codes.INVALID_PARAM, f"EH0001: the data buffer of {what} was destroyed")
    if memory is None or memory.kind != DEVICE:
        raise AclError(codes.EXECUTION, f"EZ9999: the buffer of {what} at {buffer.address:#x} is not device memory")
    offset = buffer.address - memory.address
    if buffer.size > memory.size - offset:
        raise AclError(codes.GE_PARAM, f"E19999: the buffer of {what} says {buffer.size} bytes, the allocation has "
                                       f"{memory.size - offset}")
    if buffer.size < needed:
        raise AclError(codes.GE_PARAM, f"E19999: the buffer of {what} has {buffer.size} bytes, the model needs "
                                       f"{needed}")
    return memory.bytes[offset:offset + needed]


@api("ret")
def set_dynamic_batch_size(model: int, dataset: int, index: int, batch: int) -> object:
    """Writes the gear into the buffer of the hidden input."""
    loaded, inputs = loaded_model(model), STATE.get(dataset, Dataset)
    if not loaded.model.gears:
        raise AclError(codes.NOT_DYNAMIC, "EH0001: the model has no gears")
    if index != len(loaded.model.inputs) or index >= len(inputs.buffers):
        raise AclError(codes.INVALID_PARAM, f"EH0001: input {index} of the data set is not {om.GEAR_INPUT}")
    if batch not in loaded.model.gears:
        raise AclError(codes.DYNAMIC_BATCH, f"E19999: batch {batch} is not one of the gears {loaded.model.gears}")
    _memory(inputs.buffers[index], om.GEAR_BYTES, om.GEAR_INPUT).view(np.int64)[0] = batch
    inputs.gear = loaded.gear = batch
    return NOTHING


def _not_emulated(name: str) -> AclError:
    return AclError(codes.NOT_SUPPORTED, f"EH0001: {name} is not emulated")


@api("ret")
def set_dynamic_hw_size(model: int, dataset: int, index: int, height: int, width: int) -> object:
    raise _not_emulated("a dynamic image size")


@api("ret")
def set_input_dynamic_dims(model: int, dataset: int, index: int, dims: dict) -> object:
    raise _not_emulated("dynamic dims")


def _gear(loaded: Loaded, inputs: Dataset) -> int:
    """The batch of this execution: what the hidden input's memory holds, unless no gear was ever set."""
    if not loaded.model.gears or inputs.gear is None:
        return om.gear_of(None, loaded.model)
    batch = int(_memory(inputs.buffers[-1], om.GEAR_BYTES, om.GEAR_INPUT).view(np.int64)[0])
    if batch not in loaded.model.gears:
        raise AclError(codes.DYNAMIC_BATCH, f"E19999: the gear's buffer holds {batch}, not one of {loaded.model.gears}")
    return batch


def _check_sets(loaded: Loaded, inputs: Dataset, outputs: Dataset) -> None:
    expected = len(inputs_of(loaded.model))
    if len(inputs.buffers) != expected:
        raise AclError(codes.INPUT_NOT_MATCH, f"EH0001: the model has {expected} inputs, the data set "
                                              f"{len(inputs.buffers)}")
    if len(outputs.buffers) != len(loaded.model.outputs):
        raise AclError(codes.OUTPUT_NOT_MATCH, f"EH0001: the model has {len(loaded.model.outputs)} outputs, the data "
                                               f"set {len(outputs.buffers)}")


def _ranges(loaded: Loaded, inputs: Dataset, outputs: Dataset) -> Tuple[int, List[np.ndarray], List[np.ndarray]]:
    """Batch, bytes of the inputs and of the outputs; outputs must hold the largest gear."""
    model, batch = loaded.model, _gear(loaded, inputs)
    read = [_memory(buffer, tensor.nbytes(batch), tensor.name) for tensor, buffer in zip(model.inputs, inputs.buffers)]
    for tensor, buffer in zip(model.outputs, outputs.buffers):
        _memory(buffer, tensor.nbytes(max(model.largest_gear, batch)), tensor.name)
    written = [_memory(buffer, tensor.nbytes(batch), tensor.name)
               for tensor, buffer in zip(model.outputs, outputs.buffers)]
    return batch, read, written


def _run(loaded: Loaded, inputs: Dataset, outputs: Dataset) -> None:
    if loaded.running:
        raise AclError(codes.EXECUTION, "EZ9999: one model is executed by two threads at once")
    loaded.running = True
    try:
        batch, read, written = _ranges(loaded, inputs, outputs)
        for place, result in zip(written, loaded.model.run(read, batch)):
            place[:] = result.reshape(-1).view(np.uint8)
        loaded.gear = batch if loaded.model.gears else None
    finally:
        loaded.running = False


def _prepare(model: int, inputs: int, outputs: int, stream: Any) -> Tuple[Loaded, Dataset, Dataset]:
    loaded = loaded_model(model)
    sets = STATE.get(inputs, Dataset), STATE.get(outputs, Dataset)
    check_context(loaded)
    _check_sets(loaded, *sets)
    if busy_elsewhere(model, stream):
        raise AclError(codes.EXECUTION, f"EZ9999: model {model} is still being executed on another stream")
    return (loaded, *sets)


@api("ret")
def execute(model: int, inputs: int, outputs: int) -> object:
    """Returns when it is done. Work on streams is not waited for."""
    _run(*_prepare(model, inputs, outputs, None))
    return NOTHING


@api("ret")
def execute_async(model: int, inputs: int, outputs: int, stream: int) -> object:
    on: Stream = stream_of(stream)
    prepared = _prepare(model, inputs, outputs, on)
    _ranges(*prepared)
    submit(Task(on, lambda: _run(*prepared), model=model))
    return NOTHING
