"""What a backend declares about itself. It can be read without the packages of its device."""
from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from contract.packages import not_importable

# How exact a model's numbers are, one vocabulary for all vendors. `mixed`: layers of several; `unknown`: nothing tells,
# as of an .om or an engine that another tool built.
PRECISIONS = ("fp64", "fp32", "fp16", "bf16", "int8", "mixed", "unknown")
FP64, FP32, FP16, BF16, INT8, MIXED, UNKNOWN = PRECISIONS
# Which of comparison's sets of limits a result of each precision has to keep. Where nothing tells, float16 is usual.
GATES = {FP64: "fp32", FP32: "fp32", FP16: "fp16", BF16: "fp16", MIXED: "fp16", UNKNOWN: "fp16", INT8: "int8"}
GATES_BY_WIDTH = ("fp32", "fp16", "int8")


class Room(NamedTuple):
    """One way to run models.

    packages    names in an import -> names for pip, of what it needs beyond requirements-no-torch.txt
    install     how the user gets them
    suffixes    of the model files that it runs
    flags       options of its Backend, beside the device -> what argparse's add_argument takes
    words       the vendor's word for a precision -> ours
    needs_spec  whether its model files do not describe the network, so that the config must be given
    of_folders  options that suit a folder of bins, where the user gives none; the defaults suit single images
    """

    packages: Dict[str, str]
    install: str
    suffixes: Tuple[str, ...]
    flags: Mapping[str, Dict[str, Any]] = {}
    words: Mapping[str, str] = {}
    needs_spec: bool = False
    of_folders: Mapping[str, Any] = {}

    def missing_packages(self) -> List[str]:
        return not_importable(self.packages)

    def precision(self, word: Optional[str]) -> Dict[str, Optional[str]]:
        """What a Backend's `describe` says of its precision: our word, and the vendor's beside it."""
        return {"precision": self.words.get(word or "", UNKNOWN), "vendor_precision": word}


def gate_of(precisions: Iterable[str]) -> str:
    """The name of the limits for comparing two results: those of the less exact precision."""
    return max((GATES[precision] for precision in precisions), key=GATES_BY_WIDTH.index)
