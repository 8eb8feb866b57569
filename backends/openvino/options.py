"""The OpenVINO backend: which files it runs, which packages it needs, which flags it takes."""
from __future__ import annotations

from contract.arguments import at_least
from contract.room import BF16, FP16, FP32, INT8, Room

HINTS = {"latency": "one call at a time, on all cores", "throughput": "as many calls at once as suit the cores"}

ROOM = Room(
    packages={"openvino": "openvino"},
    install="python3 -m pip install -r requirements-openvino.txt",
    suffixes=(".xml", ".onnx"),
    flags={"precision": {"choices": (FP32, BF16, FP16), "help": "precision of the layers that are not int8 in the "
                         "file (default: fp32; OpenVINO's own default is bf16 if the CPU has it)"},
           "threads": {"type": at_least(1), "help": "CPU threads (default: one for each core that the container may "
                       "use)"},
           "hint": {"choices": tuple(HINTS), "help": "; ".join(f"{hint}: {what}" for hint, what in HINTS.items()) +
                    " (default: latency, and throughput in infer.py)"},
           "model_cache": {"metavar": "DIR", "help": "keep the compiled model here, to start faster the next time"}},
    words={"f32": FP32, "bf16": BF16, "f16": FP16, "i8": INT8},
    of_folders={"hint": "throughput"},
)
