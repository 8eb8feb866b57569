"""The ONNX Runtime backend: which files it runs, which packages it needs, which flags it takes."""
from __future__ import annotations

from contract.room import FP32, INT8, Room

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

ROOM = Room(
    packages={"onnxruntime": "onnxruntime"},
    install="python3 -m pip install -r requirements-no-torch.txt",
    suffixes=(".onnx",),
    flags={"provider": {"choices": tuple(PROVIDERS), "help": "execution provider (default: cpu)"}},
    words={"float32": FP32, "int8": INT8},
)
