"""Runtime and engine."""
from __future__ import annotations

from typing import Any, List, Optional

import numpy as np
import onnx

from . import plan
from .base import INFO, WARNING, Crash, Failure, Thing, api
from .context import IExecutionContext
from .device import STATE
from .enums import Enums
from .machine import machine
from .network import Dims, ITensor

BYTES = {"FLOAT": 4, "HALF": 2, "INT8": 1, "INT32": 4, "BOOL": 1, "UINT8": 1, "INT64": 8}
TensorIOMode = Enums.TensorIOMode


class Runtime(Thing):
    """On a machine without a GPU it is made all the same, and the first use of it ends the process."""

    engine_host_code_allowed = False

    def __init__(self, logger: Any):
        fault = machine().enter("Runtime")
        if fault is not None:  # what a driver that is too old comes to
            logger.log(logger.Severity.ERROR, fault.message)
            raise TypeError("pybind11::init(): factory function returned nullptr")
        super().__init__(logger)
        if not machine().devices:
            self.log(WARNING, "CUDA initialization failure with error: 35")

    @api(unsafe=True)
    def deserialize_cuda_engine(self, serialized_engine: Any) -> Optional[ICudaEngine]:
        if not machine().devices:
            raise Crash("segmentation fault: a runtime is used on a machine without CUDA")
        here = machine()
        try:
            facts, onnx_file = plan.read(bytes(serialized_engine))
        except plan.BadPlan as error:
            raise Failure(f"Error Code 1: Serialization ({error})") from None
        if facts["tensorrt"] != here.tensorrt:
            raise Failure("Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSI"
                          "ON failed. The engine plan file is not compatible with this version of TensorRT, expecting "
                          f"library version {here.tensorrt} got {facts['tensorrt']}, please rebuild.)")
        if tuple(facts["compute_capability"]) != here.compute_capability:
            came, expected = (".".join(map(str, pair)) for pair in (facts["compute_capability"],
                                                                    here.compute_capability))
            raise Failure("Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, "
                          f"expecting compute {expected} got compute {came}, please rebuild.)")
        if facts["gpu"] != here.gpu:
            self.log(WARNING, "Using an engine plan file across different models of devices is not recommended and is "
                              "likely to affect performance or even cause errors.")
        self.log(INFO, f"Loaded engine size: {len(onnx_file) >> 20} MiB")
        return ICudaEngine(self, facts, onnx_file)


class ICudaEngine(Thing):
    def __init__(self, runtime: Runtime, facts: dict, onnx_file: bytes):
        super().__init__(runtime._logger)
        self._runtime, self._facts, self.onnx = runtime, facts, onnx_file
        graph = onnx.load_model_from_string(onnx_file).graph
        weights = {tensor.name for tensor in graph.initializer}
        inputs = [ITensor(value) for value in graph.input if value.name not in weights]
        self.inputs = {tensor.name: tensor for tensor in inputs}
        self.tensors = {**self.inputs, **{value.name: ITensor(value) for value in graph.output}}
        self.dynamic = any(-1 in tensor.shape for tensor in inputs)
        self.taken: List[int] = []  # profiles of living contexts, where they may not be shared

    num_io_tensors = property(lambda self: len(self.tensors))
    num_optimization_profiles = property(lambda self: max(1, len(self._facts["profiles"])))

    @property
    def _workspace(self) -> int:
        """What a context takes: here, four times its largest inputs."""
        shapes = [self.profile(name, index)[2] for name in self.inputs
                  for index in range(self.num_optimization_profiles)]
        return 16 * int(sum(np.prod(shape) for shape in shapes))

    def __getattr__(self, name: str) -> Any:
        if name == ("device_memory_size_v2" if machine().major >= 11 else "device_memory_size"):
            return self._workspace
        raise AttributeError(name)

    def _tensor(self, name: str) -> ITensor:
        if name not in self.tensors:
            raise Failure(f"Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
        return self.tensors[name]

    @api()
    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    @api(TensorIOMode.NONE)
    def get_tensor_mode(self, name: str) -> Any:
        self._tensor(name)
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    @api(Dims())
    def get_tensor_shape(self, name: str) -> Dims:
        return self._tensor(name).shape

    @api()
    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensor(name).dtype

    @api(Enums.TensorLocation.DEVICE)
    def get_tensor_location(self, name: str) -> Any:
        return Enums.TensorLocation.DEVICE

    @api([])
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> List[Dims]:
        if self._tensor(name) and name not in self.inputs:
            raise Failure(f"Error Code 3: API Usage Error ({name} is not an input: it has no profile shape)")
        return self.profile(name, profile_index)

    def profile(self, name: str, index: int) -> List[Dims]:
        """Smallest, usual and largest shape of an input; of a static one, its shape three times."""
        shapes = self._facts["profiles"][index].get(name) if self._facts["profiles"] else None
        return [Dims(shape) for shape in shapes] if shapes else [self.inputs[name].shape] * 3

    def bytes_of(self, name: str, shape: tuple) -> int:
        return BYTES[self.tensors[name].dtype.name] * int(np.prod(shape))

    @api(unsafe=True)
    def create_execution_context(self, *strategy: Any) -> IExecutionContext:
        """Takes the first profile that is free; where none is, the context has none until one is set."""
        need, total = self._workspace, machine().memory_mb << 20
        if STATE.used(self.device) + need > total:
            raise Failure("Error Code 2: OutOfMemory (no further information)")
        free = [index for index in range(self.num_optimization_profiles) if self.may_take(index)]
        return IExecutionContext(self, free[0] if free else -1, need)

    def may_take(self, profile: int) -> bool:
        return not self.dynamic or self._facts["profile_sharing"] or profile not in self.taken
