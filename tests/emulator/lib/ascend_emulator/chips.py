"""The chips an emulated machine can have, and which models run on which."""
from __future__ import annotations

from typing import Dict, NamedTuple, Optional


class Chip(NamedTuple):
    short: str  # family that the runtime compares when it loads a model
    memory_mb: int
    bf16: bool  # the bf16 precision modes
    layout: str  # of `npu-smi info`


def _chips() -> Dict[str, Chip]:
    chips = {"Ascend310": Chip("Ascend310", 8192, False, "310")}
    for name in ("310P1", "310P3", "310P5", "310P7"):
        chips["Ascend" + name] = Chip("Ascend310P", 21527, False, "310P")
    for name in ("310B1", "310B2", "310B3", "310B4"):
        chips["Ascend" + name] = Chip("Ascend310B", 11577, True, "310B")
    for name in ("910A", "910B", "910ProA", "910ProB", "910PremiumA"):  # 910B without a digit is the first 910
        chips["Ascend" + name] = Chip("Ascend910", 32768, False, "910")
    for name in ("910B1", "910B2", "910B2C", "910B3", "910B4", "910B4-1"):
        chips["Ascend" + name] = Chip("Ascend910B", 32768 if "B4" in name else 65536, True, "910B")
    for name in ("9362", "9372", "9381", "9382", "9391", "9392"):
        chips["Ascend910_" + name] = Chip("Ascend910_93", 65536, True, "A3")
    chips["Ascend910_5591"] = Chip("Ascend910_55", 65536, True, "A3")
    for name in ("Ascend910_95", "Ascend950"):
        chips[name] = Chip("Ascend950", 65536, True, "950")
    for name in ("610", "610Lite", "031", "035"):
        chips["Ascend" + name] = Chip("Ascend" + name, 8192, False, "310")
    return chips


CHIPS = _chips()


def find_chip(soc: str) -> Optional[Chip]:
    """The chip of a soc version; names are case-sensitive as in atc. 950 names carry a suffix of the board."""
    return CHIPS.get(soc) or (CHIPS["Ascend950"] if soc.startswith("Ascend950") else None)
