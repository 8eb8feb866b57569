"""The PyTorch backend: which files it runs, which packages it needs, which flags it takes."""
from __future__ import annotations

from contract.arguments import ON_OFF
from contract.room import BF16, FP16, FP32, FP64, Room

ROOM = Room(
    packages={"torch": "torch"},
    install="python3 -m pip install -r requirements.txt",
    suffixes=(".pth", ".pt", ".weights"),
    flags={"precision": {"choices": (FP32, FP16, BF16, FP64), "help": "type of weights and arithmetic; fp64 tells how "
                         "much rounding alone changes (default: fp32)"},
           "one_pass": {"choices": ("flip", "no_flip"), "help": "let the model also find the joints, and mirror the "
                        "crops for the flip test unless no_flip (default: the model gives heatmaps)"},
           "cuda_graph": {**ON_OFF, "help": "replay a captured CUDA graph (default: on if one can be captured)"}},
    words={"float64": FP64, "float32": FP32, "float16": FP16, "bfloat16": BF16},
    needs_spec=True,
)
