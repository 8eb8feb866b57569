"""The modules that a program imports: `tensorrt` and the runtime module of cuda-python."""
from __future__ import annotations

import types

from . import codes, memory, streams  # noqa: F401  (their functions are in FUNCTIONS once they are imported)
from .base import ILogger, Logger
from .builder import Builder, IBuilderConfig, IHostMemory, ITimingCache
from .calibration import CALIBRATORS
from .calls import FUNCTIONS
from .context import IExecutionContext
from .engine import ICudaEngine, Runtime
from .machine import machine
from .network import (
    Dims,
    INetworkDefinition,
    IOptimizationProfile,
    ITensor,
    OnnxParser,
    ParserError,
    enums_of,
)


def cuda_runtime(name: str) -> types.ModuleType:
    """`cuda.bindings.runtime`, or `cuda.cudart` as it was called up to CUDA 12."""
    module = types.ModuleType(name, "EMULATED, for tests: no GPU is behind this.")
    public = {key: value for key, value in vars(codes).items() if key.startswith("cuda")}
    vars(module).update(public, **FUNCTIONS)
    return module


def tensorrt() -> types.ModuleType:
    """`tensorrt` of the machine's version: what it lacks there, it lacks here."""
    here, enums = machine(), enums_of(machine().major)
    module = types.ModuleType("tensorrt", "EMULATED, for tests: ONNX Runtime on the CPU is behind this.")
    classes = [ILogger, Logger, Builder, IBuilderConfig, INetworkDefinition, IOptimizationProfile, ITimingCache,
               IHostMemory, ITensor, OnnxParser, ParserError, Runtime, ICudaEngine, IExecutionContext, Dims,
               *(CALIBRATORS if here.major < 11 else ())]
    vars(module).update({one.__name__: one for one in classes}, __version__=here.tensorrt, EMULATED=True,
                        BuilderFlag=enums.BuilderFlag, PreviewFeature=enums.PreviewFeature,
                        NetworkDefinitionCreationFlag=enums.NetworkDefinitionCreationFlag,
                        TensorIOMode=enums.TensorIOMode, TensorLocation=enums.TensorLocation,
                        MemoryPoolType=enums.MemoryPoolType, DataType=enums.DataType)
    if here.major < 11:
        module.CalibrationAlgoType = enums.CalibrationAlgoType
    return module
