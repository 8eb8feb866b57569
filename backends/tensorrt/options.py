"""The TensorRT backend: which files it runs, which packages it needs, which flags it takes."""
from __future__ import annotations

from contract.arguments import ON_OFF
from contract.room import FP16, FP32, INT8, Room

ROOM = Room(
    packages={"tensorrt": "tensorrt", "cuda": "cuda-python"},
    install="python3 -m pip install -r requirements-tensorrt.txt",
    suffixes=(".engine", ".plan"),
    flags={"cuda_graph": {**ON_OFF, "help": "replay a captured CUDA graph (default: on if one can be captured)"}},
    words={"fp32": FP32, "fp16": FP16, "int8": INT8},
)
