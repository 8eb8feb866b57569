"""Calibrators and the CalibrationTable that they read and write, up to version 10."""
from __future__ import annotations

import struct
from typing import Any, Dict, List, Optional

import numpy as np

from .base import ERROR, INFO, Failure, Thing
from .device import DEVICE, STATE, CudaFailure
from .enums import Enums
from .machine import machine
from .session import run_all_tensors

Algorithm = Enums.CalibrationAlgoType
TITLES = {"ENTROPY_CALIBRATION_2": "EntropyCalibration2", "MINMAX_CALIBRATION": "MinMaxCalibration",
          "ENTROPY_CALIBRATION": "EntropyCalibration", "LEGACY_CALIBRATION": "LegacyCalibration"}


class IInt8Calibrator:
    _algorithm = Algorithm.LEGACY_CALIBRATION

    def __init__(self) -> None:
        self._called = True

    def get_algorithm(self) -> Any:
        return self._algorithm

    def get_batch_size(self) -> int:
        raise NotImplementedError

    def get_batch(self, names: List[str]) -> Optional[List[int]]:
        raise NotImplementedError

    def read_calibration_cache(self) -> Optional[bytes]:
        raise NotImplementedError

    def write_calibration_cache(self, cache: Any) -> None:
        raise NotImplementedError


class IInt8EntropyCalibrator2(IInt8Calibrator):
    _algorithm = Algorithm.ENTROPY_CALIBRATION_2


class IInt8EntropyCalibrator(IInt8Calibrator):
    _algorithm = Algorithm.ENTROPY_CALIBRATION


class IInt8MinMaxCalibrator(IInt8Calibrator):
    _algorithm = Algorithm.MINMAX_CALIBRATION


class IInt8LegacyCalibrator(IInt8Calibrator):
    pass


CALIBRATORS = (IInt8Calibrator, IInt8EntropyCalibrator2, IInt8EntropyCalibrator, IInt8MinMaxCalibrator,
               IInt8LegacyCalibrator)


def first_line(calibrator: IInt8Calibrator) -> str:
    major, minor, patch = map(int, machine().tensorrt.split(".")[:3])
    number = (10000 if major >= 10 else 1000) * major + 100 * minor + patch
    return f"TRT-{number}-{TITLES[calibrator.get_algorithm().name]}"


def calibrate(builder: Thing, onnx: bytes, shapes: Dict[str, tuple], calibrator: IInt8Calibrator) -> Dict[str, float]:
    """Scale of each tensor: from the calibrator's table where it is of this version and algorithm, else measured."""
    if not getattr(calibrator, "_called", False):
        raise TypeError(f"tensorrt.{type(calibrator).__mro__[1].__name__}.__init__() must be called when overriding "
                        "__init__")
    cache = calibrator.read_calibration_cache()
    lines = bytes(cache).decode().splitlines() if cache is not None else []
    if lines and lines[0] == first_line(calibrator):
        builder.log(INFO, "Reading Calibration Cache for calibrator")
        return {name: struct.unpack(">f", bytes.fromhex(digits))[0]
                for name, _, digits in (line.rpartition(": ") for line in lines[1:])}
    if lines:
        builder.log(ERROR, "Error Code 1: Internal Error (Calibration table does not match calibrator algorithm type.)")
    amax = _measure(onnx, shapes, calibrator)
    rows = [f"{name}: {struct.pack('>f', value / 127).hex()}" for name, value in amax.items()]
    calibrator.write_calibration_cache("\n".join([first_line(calibrator), *rows, ""]).encode())
    return {name: value / 127 for name, value in amax.items()}


def _measure(onnx: bytes, shapes: Dict[str, tuple], calibrator: IInt8Calibrator) -> Dict[str, float]:
    """Largest magnitude of each tensor over all batches. (The real one cuts tails off where it is of entropy.)"""
    batch = calibrator.get_batch_size()
    if any(shape[0] != batch for shape in shapes.values()):
        raise Failure(f"Error Code 4: Internal Error (calibration batches of {batch} do not match {shapes})")
    amax: Dict[str, float] = {}
    while True:
        addresses = calibrator.get_batch(list(shapes))
        if not addresses:
            break
        feeds = {}
        for (name, shape), address in zip(shapes.items(), addresses):
            try:
                window = STATE.window(int(address), 4 * int(np.prod(shape)), DEVICE)
            except CudaFailure:
                raise Failure("Error Code 1: Cuda Runtime (an illegal memory access was encountered)") from None
            feeds[name] = window.view(np.float32).reshape(shape)
        for name, values in run_all_tensors(onnx, feeds).items():
            amax[name] = max(amax.get(name, 0.0), float(np.abs(values).max()))
    if not amax:
        raise Failure("Error Code 1: Internal Error (Calibration failure occurred with no scaling factors detected.)")
    return amax
