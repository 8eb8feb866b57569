"""An NVIDIA machine without a GPU: what `tensorrt` and cuda-python are here.

Engines run their ONNX with ONNX Runtime on the CPU. tests/tensorrt_emulator/__init__.py says how to switch it on.
"""
from __future__ import annotations

import os

SWITCH = "NVIDIA_EMULATOR"  # set by tests.tensorrt_emulator, by nothing else

if not os.environ.get(SWITCH):
    raise ImportError(f"this is the TensorRT emulator of the tests, not TensorRT: it works only where {SWITCH}=1 is "
                      "set, see tests/tensorrt_emulator/README.md")
