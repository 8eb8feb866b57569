"""What counts as agreement: named sets of limits, each of which can be changed, and the verdict they give."""
from __future__ import annotations

import math
from typing import Any, Dict, List, Optional

from comparison.levels import LEVELS
from comparison.limits import Verdict
from contract.errors import UserError

LIMITS = {name: limit for level in LEVELS.values() for name, limit in level.LIMITS.items()}
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "int8": 1e-1}  # gate -> atol and rtol of an element
# FastReID's own check of features, numpy.testing.assert_allclose, and nothing else.
FASTREID, FASTREID_LIMITS = "fastreid", {"atol": 1e-6, "rtol": 1e-3, "allclose": 0.0}

# fp32: the same arithmetic in another order. Near ties of two cells may fall either way, so argmax is not 1.
# fp16: FastPose run in float16 throughout keeps cosine 0.999995 and argmax 0.991, and a small network whose weights
# alone are rounded 0.99998 and 0.976; cells beside a peak tie. int8: half an AP point and a heatmap cell (4 pixels).
GATES: Dict[str, Dict[str, float]] = {
    gate: {"atol": tolerance, "rtol": tolerance,
           **{name: limit.bounds[gate] for name, limit in LIMITS.items() if gate in limit.bounds}}
    for gate, tolerance in TOLERANCES.items()}


def choose_limits(gate: str, overrides: List[str], atol: Optional[float], rtol: Optional[float]) -> Dict[str, float]:
    """The limits of a gate with the user's own, each NAME=VALUE, in their place; and the two tolerances."""
    limits = dict(FASTREID_LIMITS if gate == FASTREID else GATES[gate])
    for text in overrides:
        name, _, value = text.partition("=")
        try:
            limits[name] = float(value)
        except ValueError:
            raise UserError(f"--limit {text}: expected NAME=NUMBER") from None
        if name not in LIMITS:
            raise UserError(f"--limit {text}: no such limit. Known are {', '.join(LIMITS)}")
    limits.update({name: value for name, value in (("atol", atol), ("rtol", rtol)) if value is not None})
    for name, limit in limits.items():
        least = 0 if name in ("atol", "rtol") else -math.inf
        if not math.isfinite(limit) or limit < least:
            raise UserError(f"{name} is {limit}, expected a finite number" + (" of at least 0" if least == 0 else ""))
    return limits


def judge(measured: Dict[str, Any], limits: Dict[str, float]) -> List[Verdict]:
    """Every limit that the measured levels can be compared with, with what came and whether it is kept."""
    verdicts = []
    for level, module in LEVELS.items():
        for name, limit in module.LIMITS.items() if level in measured else ():
            value = limit.value(measured[level])
            if name in limits and value is not None:
                bound, note = limits[name], ""
                if not limit.keeps(value, bound):
                    note = limit.excuse(measured[level])
                kept = bool(note) or limit.keeps(value, bound)
                verdicts.append(Verdict(name, level, value, limit.sense, bound, kept, note, limit.meaning))
    return verdicts


def first_difference(verdicts: List[Verdict]) -> Optional[str]:
    """The earliest level with a limit that is not kept; None when all are."""
    broken = {verdict.level for verdict in verdicts if not verdict.kept}
    return next((level for level in LEVELS if level in broken), None)
