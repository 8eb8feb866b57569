"""What the room of PyTorch runs, needs and takes."""
from __future__ import annotations

from contract.arguments import ON_OFF
from contract.room import BF16, FP16, FP32, Room

ROOM = Room(
    packages={"torch": "torch"},
    install="python3 -m pip install -r requirements.txt",
    suffixes=(".pth", ".pt", ".weights"),
    flags={"precision": {"choices": (FP32, FP16, BF16), "help": "weights and arithmetic (default: fp32)"},
           "one_pass": {"choices": ("flip", "no_flip"), "help": "mirror the crops and find the joints in the "
                        "model too, with or without the flip test (default: heatmaps)"},
           "cuda_graph": {**ON_OFF, "help": "replay a captured CUDA graph (default: where one can be captured)"}},
    words={"float32": FP32, "float16": FP16, "bfloat16": BF16},
    needs_spec=True,
)
