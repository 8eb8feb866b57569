"""OpenVINO on a CPU, or on an Intel GPU or NPU that is named."""
from __future__ import annotations

import os
import queue
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
import openvino
from openvino.frontend import FrontEndManager

from backends.openvino.options import ROOM
from contract.backend import check_one_output
from contract.errors import UserError
from contract.files import PathLike, sha256_of_file
from contract.onnx_file import load_onnx
from contract.room import FP32
from contract.threads import cpu_limit

CPU = "CPU"
RELEASE = f"OpenVINO {openvino.__version__.split('-')[0]}"  # what follows is its build
ELEMENT_TYPES = {FP32: "f32", "bf16": "bf16", "fp16": "f16"}  # OpenVINO's words
INPUT_DTYPES: Dict[str, np.dtype] = {"f32": np.dtype(np.float32), "u8": np.dtype(np.uint8)}
QUANTIZED = "FakeQuantize"  # what QuantizeLinear of an ONNX file is read as


class Backend:
    """An .onnx, or an .xml with its .bin, with one input and one output. The batch is None where it is open.

    `device` is cpu, GPU, GPU.1, NPU, ...; `precision` that of everything which the file does not have in int8.
    `threads` None takes one for each core, no more than the container may use. With the hint throughput, `slots` calls
    run at once, and `times` has each one's share of the time. `model_cache` is a folder.
    """

    def __init__(self, model: PathLike, device: Optional[str] = None, spec: Any = None, precision: str = FP32,
                 threads: Optional[int] = None, hint: str = "latency", model_cache: Optional[PathLike] = None):
        core = openvino.Core()
        self.model, self.device, self.hint = model, _device(core, device), hint
        _check_precision(core, self.device, precision)
        network = _read(model)
        if len(network.inputs) != 1 or _word(network.inputs[0].element_type) not in INPUT_DTYPES:
            came = ", ".join(f"{_word(tensor.element_type)} {tensor.partial_shape}" for tensor in network.inputs)
            raise UserError(f"{model}: expected one input of {' or '.join(INPUT_DTYPES)}, got {came}")
        check_one_output(model, {tensor.get_any_name(): _shape(tensor) for tensor in network.outputs})
        self.input_dtype = INPUT_DTYPES[_word(network.inputs[0].element_type)]
        self.input_shape, self.output_shape = _shape(network.inputs[0]), _shape(network.outputs[0])
        self.is_int8 = any(node.get_type_name() == QUANTIZED for node in network.get_ops())
        settings: Dict[str, Any] = {"INFERENCE_PRECISION_HINT": ELEMENT_TYPES[precision],
                                    "PERFORMANCE_HINT": hint.upper()}
        threads = threads or cpu_limit()
        if threads and self.device == CPU:
            settings["INFERENCE_NUM_THREADS"] = threads
        if model_cache:
            settings["CACHE_DIR"] = os.fspath(model_cache)
        try:
            self.compiled = core.compile_model(network, self.device, settings)
        except Exception as error:  # OpenVINO's errors share no base class
            raise _refused(model, f"cannot compile it for {self.device}", error) from None
        self.slots = 1 if hint == "latency" else self.compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self.free_requests: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(self.slots):
            self.free_requests.put(self.compiled.create_infer_request())
        self.clock = SharedClock()
        self.times = self.clock.times

    def infer(self, rows: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(rows, self.input_dtype)
        request = self.free_requests.get()
        try:
            with self.clock:
                outputs = request.infer({0: rows}, share_inputs=True)[0]  # a copy
            return np.asarray(outputs, np.float32)
        except RuntimeError as error:
            raise _refused(self.model, f"cannot run it on {' x '.join(map(str, rows.shape))}", error) from None
        finally:
            self.free_requests.put(request)

    def describe(self) -> Dict[str, Any]:
        word = _word(self.compiled.get_property("INFERENCE_PRECISION_HINT"))
        known = self.compiled.get_property("SUPPORTED_PROPERTIES")
        numbers = {ours: self.compiled.get_property(theirs) for ours, theirs in
                   (("threads", "INFERENCE_NUM_THREADS"), ("streams", "NUM_STREAMS")) if theirs in known}
        weights = Path(self.model).with_suffix(".bin")
        beside = {"weights_sha256": sha256_of_file(weights)} if _is_ir(self.model) else {}
        return {"device": self.device.lower(), **ROOM.precision("i8" if self.is_int8 else word), "options": word,
                "hint": self.hint, **numbers, **beside, "openvino": RELEASE.split()[1]}

    def close(self) -> None:
        self.free_requests = self.compiled = None  # type: ignore[assignment]


class SharedClock:
    """Milliseconds of calls that overlap: while several run, each is charged its equal share of the time, so that the
    number of calls over the sum of `times` is their rate. One that runs alone is charged all of it."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.now, self.times = now, []  # type: ignore[var-annotated]
        self.running: Dict[int, float] = {}  # thread -> milliseconds so far
        self.lock, self.last = threading.Lock(), 0.0

    def _share_out(self) -> None:
        now = self.now()
        for thread in self.running:
            self.running[thread] += 1000 * (now - self.last) / len(self.running)
        self.last = now

    def __enter__(self) -> None:
        with self.lock:
            self._share_out()
            self.running[threading.get_ident()] = 0.0

    def __exit__(self, kind: Any, *error: Any) -> None:
        with self.lock:
            self._share_out()
            milliseconds = self.running.pop(threading.get_ident())
            if kind is None:
                self.times.append(milliseconds)


def _device(core: Any, name: Optional[str]) -> str:
    """OpenVINO's name for what the user calls it; GPU is the first of several."""
    device, known = (name or CPU).upper(), core.available_devices
    if device not in known and not any(one.startswith(f"{device}.") for one in known):
        raise UserError(f"--device {name}: {RELEASE} finds {', '.join(known)} here. A "
                        "GPU or NPU needs Intel's driver")
    return device


def _check_precision(core: Any, device: str, precision: str) -> None:
    """OpenVINO computes in another precision where a device lacks the one that it is asked for."""
    can = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if precision.upper() not in can:
        ours = [word for word in ELEMENT_TYPES if word.upper() in can]
        raise UserError(f"--precision {precision}: this {device} has no such arithmetic for OpenVINO. It has "
                        f"{', '.join(ours)}")


def _is_ir(model: PathLike) -> bool:
    return Path(model).suffix == ".xml"


def _read(model: PathLike) -> Any:
    """Read by its suffix: OpenVINO itself would try every reader that it has, aloud."""
    if not os.path.isfile(model):
        raise UserError(f"{model}: no such model file")
    if not _is_ir(model):
        load_onnx(model, weights=False)  # refuses training mode
    try:
        reader = FrontEndManager().load_by_framework("ir" if _is_ir(model) else "onnx")
        network = reader.convert(reader.load(os.fspath(model)))
    except Exception as error:  # of many kinds
        raise _refused(model, "cannot load it", error) from None
    if not network.inputs:
        raise UserError(f"{model}: not a model: it has no input")
    return network


def _refused(model: PathLike, what: str, error: Exception) -> UserError:
    return UserError(f"{model}: {RELEASE} {what}: {' '.join(str(error).split())}")


def _word(element_type: Any) -> str:
    return element_type.to_string()


def _shape(tensor: Any) -> Tuple[Optional[int], ...]:
    return tuple(size.get_length() if size.is_static else None for size in tensor.partial_shape)
