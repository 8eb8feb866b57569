"""Enumerations of TensorRT by major version. Their values, which are bit positions, move between versions."""
from __future__ import annotations

import enum
from typing import Dict, Type

FLAGS = {
    8: {"FP16": 0, "INT8": 1, "DEBUG": 2, "REFIT": 5, "DISABLE_TIMING_CACHE": 6, "TF32": 7, "SPARSE_WEIGHTS": 8,
        "OBEY_PRECISION_CONSTRAINTS": 10, "PREFER_PRECISION_CONSTRAINTS": 11, "DIRECT_IO": 12,
        "REJECT_EMPTY_ALGORITHMS": 13, "VERSION_COMPATIBLE": 15, "EXCLUDE_LEAN_RUNTIME": 16, "FP8": 17},
    10: {"FP16": 0, "INT8": 1, "DEBUG": 2, "REFIT": 4, "DISABLE_TIMING_CACHE": 5, "TF32": 6, "SPARSE_WEIGHTS": 7,
         "OBEY_PRECISION_CONSTRAINTS": 9, "PREFER_PRECISION_CONSTRAINTS": 10, "DIRECT_IO": 11,
         "REJECT_EMPTY_ALGORITHMS": 12, "VERSION_COMPATIBLE": 13, "EXCLUDE_LEAN_RUNTIME": 14, "FP8": 15,
         "ERROR_ON_TIMING_CACHE_MISS": 16, "BF16": 17, "STRIP_PLAN": 19, "REFIT_IDENTICAL": 20, "INT4": 22},
    11: {"DEBUG": 2, "REFIT": 4, "DISABLE_TIMING_CACHE": 5, "TF32": 6, "SPARSE_WEIGHTS": 7, "DIRECT_IO": 11,
         "VERSION_COMPATIBLE": 12, "EXCLUDE_LEAN_RUNTIME": 13, "ERROR_ON_TIMING_CACHE_MISS": 15, "STRIP_PLAN": 18,
         "REFIT_IDENTICAL": 19, "EDITABLE_TIMING_CACHE": 26}}
NETWORK_FLAGS = {8: {"EXPLICIT_BATCH": 0, "EXPLICIT_PRECISION": 1}, 10: {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1},
                 11: {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1, "PREFER_AOT_PYTHON_PLUGINS": 2}}
PREVIEW = {8: {"FASTER_DYNAMIC_SHAPES_0805": 0, "PROFILE_SHARING_0806": 2},
           10: {"PROFILE_SHARING_0806": 0, "ALIASED_PLUGIN_IO_10_03": 1},
           11: {"ALIASED_PLUGIN_IO_10_03": 0, "RUNTIME_ACTIVATION_RESIZE_10_10": 1}}
POOLS = {"WORKSPACE": 0, "DLA_MANAGED_SRAM": 1, "DLA_LOCAL_DRAM": 2, "DLA_GLOBAL_DRAM": 3, "TACTIC_DRAM": 4}
SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
CALIBRATION = {"LEGACY_CALIBRATION": 0, "ENTROPY_CALIBRATION": 1, "ENTROPY_CALIBRATION_2": 2, "MINMAX_CALIBRATION": 3}
TYPES = {"FLOAT": 0, "HALF": 1, "INT8": 2, "INT32": 3, "BOOL": 4, "UINT8": 5, "FP8": 6}
NEW_TYPES = {"BF16": 7, "INT64": 8, "INT4": 9}  # from 10 on


class _Flag(enum.Enum):
    """As pybind11 makes them: no integers, but int() of one is its value."""

    def __int__(self) -> int:
        return self.value


def make(name: str, members: Dict[str, int]) -> Type[enum.Enum]:
    return _Flag(name, members, module="tensorrt")  # type: ignore[call-overload, return-value]


class Enums:
    """Those of one version. Modes of tensors and severities are the same objects in all of them."""

    Severity = make("Severity", SEVERITIES)
    TensorIOMode = make("TensorIOMode", {"NONE": 0, "INPUT": 1, "OUTPUT": 2})
    TensorLocation = make("TensorLocation", {"DEVICE": 0, "HOST": 1})
    MemoryPoolType = make("MemoryPoolType", POOLS)
    CalibrationAlgoType = make("CalibrationAlgoType", CALIBRATION)

    def __init__(self, major: int):
        self.DataType = make("DataType", {**TYPES, **(NEW_TYPES if major >= 10 else {})})
        self.BuilderFlag = make("BuilderFlag", FLAGS[major])
        self.NetworkDefinitionCreationFlag = make("NetworkDefinitionCreationFlag", NETWORK_FLAGS[major])
        self.PreviewFeature = make("PreviewFeature", PREVIEW[major])
