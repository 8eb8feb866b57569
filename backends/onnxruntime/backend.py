"""ONNX Runtime, on the CPU or, with its GPU package, on CUDA or TensorRT."""
from __future__ import annotations

import os
import re
import time
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import onnxruntime

from backends.onnxruntime.options import PROVIDERS, ROOM
from contract.backend import check_one_output
from contract.errors import UserError
from contract.files import PathLike
from contract.onnx_file import read_facts
from contract.threads import threads_wanted

HAS_TF32_OPTION = (1, 18)  # an older ONNX Runtime refuses use_tf32
INPUT_TYPES: Dict[str, np.dtype] = {"tensor(float)": np.dtype(np.float32), "tensor(uint8)": np.dtype(np.uint8)}


class Backend:
    """An ONNX file with one input and one output, in evaluation mode. The batch is None where it is symbolic.

    `provider` is one of PROVIDERS; `device` says which GPU. float32 without TF32 on all of them. `times` include the
    copies to a GPU.
    """

    slots = 1

    def __init__(self, model: PathLike, device: Optional[str] = None, spec: Any = None, provider: str = "cpu"):
        self.provider, self.device = provider, _device(device, provider)
        if not os.path.isfile(model):
            raise UserError(f"{model}: no such model file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are exceptions too, and users cannot fix its warnings
        options.intra_op_num_threads = threads_wanted()  # 0: one per core
        options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads leave the CPU to others
        providers = _providers(provider, self.device)
        try:
            self.session = onnxruntime.InferenceSession(os.fspath(model), options, providers=providers)
        except Exception as error:  # onnxruntime's errors share no base class
            raise UserError(f"{model}: ONNX Runtime {onnxruntime.__version__} cannot load it: "
                            f"{' '.join(str(error).split())}") from None
        self._check_provider()
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or inputs[0].type not in INPUT_TYPES:
            came = ", ".join(f"{tensor.name} {tensor.type}" for tensor in inputs)
            raise UserError(f"{model}: expected one input of {' or '.join(INPUT_TYPES)}, got {came}")
        check_one_output(model, {tensor.name: _shape(tensor.shape) for tensor in outputs})
        self.is_int8 = read_facts(model).quantized  # refuses training mode
        self.times: List[float] = []
        self.model, self.input_name, self.output_name = model, inputs[0].name, outputs[0].name
        self.input_dtype = INPUT_TYPES[inputs[0].type]
        self.input_shape, self.output_shape = _shape(inputs[0].shape), _shape(outputs[0].shape)

    def infer(self, rows: np.ndarray) -> np.ndarray:
        try:
            rows = np.ascontiguousarray(rows, self.input_dtype)
            started = time.perf_counter()
            outputs = self.session.run([self.output_name], {self.input_name: rows})[0]
            self.times.append(1000 * (time.perf_counter() - started))
            return outputs
        except Exception as error:  # of the same many kinds: an operator that this release does not take so
            raise UserError(f"{self.model}: ONNX Runtime {onnxruntime.__version__} cannot run it: "
                            f"{' '.join(str(error).split())}") from None

    def _check_provider(self) -> None:
        """ONNX Runtime goes on with the CPU, silently, when the libraries of a GPU cannot be loaded, or when a run on
        the GPU fails. The first is refused here, and the second is switched off."""
        self.session.disable_fallback()
        came = self.session.get_providers()[0]
        if came != PROVIDERS[self.provider]:
            raise UserError(f"--provider {self.provider}: ONNX Runtime {onnxruntime.__version__} fell back to {came}. "
                            "Its GPU package needs a GPU with its driver, and the CUDA, cuDNN and, for tensorrt, "
                            "TensorRT libraries of the versions that it was built with on LD_LIBRARY_PATH")

    def describe(self) -> dict:
        word = "int8" if self.is_int8 else "float32"
        return {"device": self.device, "provider": self.provider, **ROOM.precision(word),
                "onnxruntime": onnxruntime.__version__}

    def close(self) -> None:
        self.session = None


def _device(name: Optional[str], provider: str) -> str:
    """cpu, or cuda:N. `name` is what the user gave: None, cpu, cuda, cuda:1 or 1."""
    if provider == "cpu":
        if name not in (None, "cpu"):
            raise UserError(f"--device {name}: the onnxruntime backend runs on cpu, unless --provider says cuda or "
                            "tensorrt")
        return "cpu"
    match = re.fullmatch(r"cuda|(?:cuda:)?(\d+)", name or "cuda")
    if not match:
        raise UserError(f"--device {name}: expected the GPU of --provider {provider}, such as cuda:1 or 1")
    return f"cuda:{match[1] or 0}"


def _providers(provider: str, device: str) -> List[Any]:
    """What InferenceSession takes: the provider with its settings, and those that take the operators it lacks."""
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        raise UserError(f"--provider {provider}: this ONNX Runtime {onnxruntime.__version__} has no "
                        f"{PROVIDERS[provider]}. python3 -m pip uninstall onnxruntime; python3 -m pip install "
                        "onnxruntime-gpu")
    if provider == "cpu":
        return [PROVIDERS["cpu"]]
    # All that switches TF32 off in the tensorrt provider, and in CUDA's before it had an option of its own.
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if hasattr(onnxruntime, "preload_dlls"):  # from 1.21: CUDA and cuDNN of pip's packages
        onnxruntime.preload_dlls()
    number = device.split(":")[1]
    # Algorithms chosen by rule and not by timing, so that a run done again gives the same bytes.
    settings = {"device_id": number, "cudnn_conv_algo_search": "HEURISTIC"}
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= HAS_TF32_OPTION:
        settings["use_tf32"] = "0"
    cuda = (PROVIDERS["cuda"], settings)
    return [cuda] if provider == "cuda" else [(PROVIDERS["tensorrt"], {"device_id": number}), cuda]


def _shape(dimensions: list) -> Tuple[Optional[int], ...]:
    """ONNX Runtime gives a symbolic dimension as its name, or None."""
    return tuple(size if isinstance(size, int) and size > 0 else None for size in dimensions)
