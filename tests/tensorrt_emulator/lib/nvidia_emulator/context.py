"""Execution context: shapes, addresses, and the execution of an engine on a stream."""
from __future__ import annotations

import weakref
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from .base import Failure, Thing, api
from .calls import forbid_in_capture
from .device import ALIGNMENT, DEVICE, ILLEGAL_ADDRESS, STATE, CudaFailure, Task, busy_elsewhere, submit
from .machine import UNKNOWN, machine
from .network import Dims
from .session import session

NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "BOOL": np.bool_,
         "UINT8": np.uint8, "INT64": np.int64}


class Frozen(NamedTuple):
    """What an execution was enqueued with."""

    shapes: Dict[str, Tuple[int, ...]]
    addresses: Dict[str, int]
    revision: int
    captured: bool


class IExecutionContext(Thing):
    def __init__(self, engine: Any, profile: int, workspace: int):
        super().__init__(engine._logger)
        self.engine, self.workspace = engine, workspace
        self.active_optimization_profile = -1
        self._addresses: Dict[str, int] = {}
        self._warm: Tuple = ()  # shapes of the last execution: the first one of new shapes allocates
        self._revision = 0  # what was captured of an earlier one must not be launched
        self._take(profile)

    def __del__(self) -> None:
        if self.active_optimization_profile in self.engine.taken:
            self.engine.taken.remove(self.active_optimization_profile)

    def _take(self, profile: int) -> None:
        if self.active_optimization_profile in self.engine.taken:
            self.engine.taken.remove(self.active_optimization_profile)
        if profile >= 0:
            self.engine.taken.append(profile)
        self.active_optimization_profile = profile
        self._shapes = {name: tensor.shape for name, tensor in self.engine.inputs.items()}
        self._revision += 1

    @api(False)
    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Resets the shapes of dynamic inputs."""
        STATE.stream(_handle(stream_handle))
        if not 0 <= profile_index < self.engine.num_optimization_profiles:
            raise Failure(f"Error Code 3: API Usage Error (profile {profile_index} does not exist)")
        if profile_index != self.active_optimization_profile and not self.engine.may_take(profile_index):
            raise Failure(f"Error Code 3: API Usage Error (Profile {profile_index} has been chosen by another "
                          "IExecutionContext. Use another profileIndex or destroy the IExecutionContext that uses it.)")
        self._take(profile_index)
        return True

    @api(False)
    def set_input_shape(self, name: str, shape: tuple) -> bool:
        if not isinstance(shape, (tuple, list)) or not all(type(size) is int for size in shape):
            raise TypeError("set_input_shape(): incompatible function arguments: shape is a tuple of int")
        if name not in self.engine.inputs:
            raise Failure(f"Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
        if self.active_optimization_profile < 0:
            raise Failure("Error Code 3: API Usage Error (no optimization profile is set)")
        least, _, most = self.engine.profile(name, self.active_optimization_profile)
        if len(shape) != len(most) or not all(low <= size <= high for low, size, high in zip(least, shape, most)):
            raise Failure(f"Error Code 3: API Usage Error (Supplied binding dimension {tuple(shape)} for {name} is not "
                          f"in range of profile {self.active_optimization_profile}: {least} to {most})")
        if self._shapes[name] != tuple(shape):
            self._shapes[name] = Dims(shape)
            self._revision += 1
        return True

    def infer_shapes(self) -> List[str]:
        """Names of the inputs whose shape is still missing."""
        missing = self._infer_shapes()
        if missing is None:
            raise RuntimeError("infer_shapes error code: -1")
        return missing

    @api(None)
    def _infer_shapes(self) -> List[str]:
        return [name for name, shape in self._shapes.items() if -1 in shape]

    @api(Dims())
    def get_tensor_shape(self, name: str) -> Dims:
        self.engine._tensor(name)
        if name in self._shapes:
            return self._shapes[name]
        known = self.engine.tensors[name].shape
        batch = next(iter(self._shapes.values()))[0]  # the one symbolic size that is known here
        return Dims(batch if size == -1 else size for size in known)

    @api(False)
    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.engine._tensor(name)
        address = _handle(memory)
        if not address or address % ALIGNMENT:
            raise Failure(f"Error Code 3: API Usage Error (address {address:#x} of {name} is null or not aligned to "
                          f"{ALIGNMENT} bytes)")
        if self._addresses.get(name) != address:
            self._addresses[name] = address
            self._revision += 1
        return True

    @api(0)
    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    @api(False)
    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = STATE.stream(_handle(stream_handle))
        self._check(stream)
        shapes = tuple(self._shapes.values())
        if self._warm != shapes:
            forbid_in_capture()
            self._warm = shapes
        frozen = Frozen({name: self.get_tensor_shape(name) for name in self.engine.tensors}, dict(self._addresses),
                        self._revision, stream.capture is not None)
        alive = weakref.ref(self)  # neither work on the way nor a graph keeps a context
        submit(Task(stream, lambda: _execute(alive(), frozen), context=alive))
        return True

    def _check(self, stream: Any) -> None:
        if stream in STATE.defaults:
            machine().note("execute_async_v3 on the default stream")
        if STATE.sticky:
            raise CudaFailure(STATE.sticky)
        last = getattr(STATE.thread, "last_error", 0)
        if last:
            raise Failure(f"Error Code 1: Cuda Runtime (an earlier error, {last}, was not cleared)")
        if stream.device != self.device or STATE.device != self.device:
            raise Failure("Error Code 1: Cuda Runtime (invalid resource handle)")
        missing = [name for name, shape in self._shapes.items() if -1 in shape]
        if missing or self.active_optimization_profile < 0:
            raise Failure(f"Error Code 3: API Usage Error (the shape of {missing} is not specified)")
        missing = [name for name in self.engine.tensors if name not in self._addresses]
        if missing:
            raise Failure(f"Error Code 3: API Usage Error (Address is not set for {missing})")
        if busy_elsewhere(self, stream):
            machine().note("a context is executed while it still runs on another stream")


def _execute(context: Optional[IExecutionContext], frozen: Frozen) -> None:
    fault = machine().enter("kernel")
    if fault is not None:
        raise CudaFailure(fault.code if fault.code != UNKNOWN else ILLEGAL_ADDRESS)
    if context is None:
        machine().note("a context was destroyed before its work was done, or before its graph")
        raise CudaFailure(ILLEGAL_ADDRESS)
    engine = context.engine
    tensors = {name: STATE.window(frozen.addresses[name], engine.bytes_of(name, shape), DEVICE).view(
        NUMPY[engine.tensors[name].dtype.name]).reshape(shape) for name, shape in frozen.shapes.items()}
    outputs = [name for name in tensors if name not in engine.inputs]
    if frozen.captured and frozen.revision != context._revision:
        machine().note("a graph is launched after the context it was captured of was changed")
        for name in outputs:
            tensors[name].view(np.uint8)[:] = 0xFF
        return
    feeds = {name: tensors[name] for name in engine.inputs}
    for name, values in zip(outputs, session(engine.onnx).run(outputs, feeds)):
        np.copyto(tensors[name], values)


def _handle(value: Any) -> int:
    """The bindings take an integer; that of cuda-python's handles is theirs only when it is asked for."""
    if type(value) is not int:
        raise TypeError(f"incompatible function arguments: expected int, got {type(value).__name__}")
    return value
