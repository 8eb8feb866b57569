"""The ncnn backend: which files it runs, which packages it needs, which flags it takes."""
from __future__ import annotations

from contract.arguments import at_least
from contract.room import BF16, FP16, FP32, INT8, Room

ROOM = Room(
    packages={"ncnn": "ncnn"},
    install="python3 -m pip install -r requirements-ncnn.txt",
    suffixes=(".param",),
    flags={"precision": {"choices": (FP32, FP16, BF16), "help": "type of activations and float weights in memory "
                         "(default: fp32)"},
           "threads": {"type": at_least(1), "help": "CPU threads (default: ncnn's own choice, one per fast core)"}},
    words={word: word for word in (FP32, FP16, BF16, INT8)},
)
