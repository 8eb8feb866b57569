"""What counts as agreement: named sets of limits, each of which can be changed, and the verdict they give."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional

from contract.errors import UserError

TENSORS, HEATMAPS, KEYPOINTS, SCORE = LEVELS = ("tensors", "heatmaps", "keypoints", "score")
LEAST, MOST = ">=", "<="


@dataclasses.dataclass(frozen=True)
class Limit:
    level: str
    sense: str
    meaning: str


LIMITS = {
    "cosine": Limit(TENSORS, LEAST, "cosine similarity of all values together"),
    "cosine_worst": Limit(TENSORS, LEAST, "cosine similarity of the worst person"),
    "max_abs": Limit(TENSORS, MOST, "largest absolute difference"),
    "mismatched": Limit(TENSORS, MOST, "fraction of elements beyond both --atol and --rtol"),
    "argmax": Limit(HEATMAPS, LEAST, "fraction of joints whose highest cell is the same"),
    "pixels_p95": Limit(KEYPOINTS, MOST, "95th percentile of keypoint distances, pixels of the network's input"),
    "oks": Limit(KEYPOINTS, LEAST, "mean OKS between the two"),
    "scores_p95": Limit(KEYPOINTS, MOST, "95th percentile of joint score differences, relative to a's mean score"),
    "unmatched": Limit(KEYPOINTS, MOST, "fraction of people that only one of two keypoints files has"),
    "ap_change": Limit(SCORE, MOST, "absolute change of AP, where the bootstrap interval excludes 0"),
}

# fp32: the same arithmetic in another order. Near ties of two cells may fall either way, so argmax is not 1.
# fp16: FastPose run in float16 throughout keeps cosine 0.999995 and argmax 0.991, and a small network whose weights
# alone are rounded 0.99998 and 0.976; cells beside a peak tie. int8: half an AP point and a heatmap cell (4 pixels).
GATES: Dict[str, Dict[str, float]] = {
    "fp32": {"atol": 1e-3, "rtol": 1e-3, "cosine": 0.999999, "cosine_worst": 0.99999, "max_abs": 1e-3, "mismatched": 0,
             "argmax": 0.999, "pixels_p95": 0.05, "oks": 0.999, "scores_p95": 0.001,
             "unmatched": 0.001, "ap_change": 0.001},
    "fp16": {"atol": 1e-2, "rtol": 1e-2, "cosine": 0.9999, "cosine_worst": 0.995, "mismatched": 1e-3,
             "argmax": 0.97, "pixels_p95": 0.5, "oks": 0.995, "scores_p95": 0.02,
             "unmatched": 0.005, "ap_change": 0.003},
    "int8": {"atol": 1e-1, "rtol": 1e-1, "cosine": 0.99, "cosine_worst": 0.9, "mismatched": 0.01,
             "argmax": 0.85, "pixels_p95": 4.0, "oks": 0.97, "scores_p95": 0.1,
             "unmatched": 0.02, "ap_change": 0.005},
}


def choose_limits(gate: str, overrides: List[str], atol: Optional[float], rtol: Optional[float]) -> Dict[str, float]:
    """The limits of a gate with the user's own, each NAME=VALUE, in their place; and the two tolerances."""
    limits = dict(GATES[gate])
    for text in overrides:
        name, _, value = text.partition("=")
        try:
            limits[name] = float(value)
        except ValueError:
            raise UserError(f"--limit {text}: expected NAME=NUMBER") from None
        if name not in LIMITS:
            raise UserError(f"--limit {text}: no such limit. Known are {', '.join(LIMITS)}")
    return {**limits, **{name: value for name, value in (("atol", atol), ("rtol", rtol)) if value is not None}}


def judge(levels: Dict[str, Any], limits: Dict[str, float]) -> List[Dict[str, Any]]:
    """Every limit that the measured levels can be held against, with what came and whether it is kept."""
    values = measured_values(levels)
    verdicts = []
    for name, limit in LIMITS.items():
        if name in limits and name in values:
            value, bound, note = values[name], limits[name], ""
            kept = value >= bound if limit.sense == LEAST else value <= bound
            if name == "ap_change" and not kept and levels[SCORE]["intervals"]:
                low, high = levels[SCORE]["intervals"]["AP"]
                kept = low <= 0 <= high
                note = "not beyond chance: the interval holds 0" if kept else ""
            verdicts.append({"limit": name, "level": limit.level, "value": value, "sense": limit.sense, "bound": bound,
                             "kept": bool(kept), "note": note, "meaning": limit.meaning})
    return verdicts


def measured_values(levels: Dict[str, Any]) -> Dict[str, float]:
    """The value that each limit looks at; of dumps of normal and of mirrored bins, the worse one."""
    values = {}
    if TENSORS in levels:
        folders = levels[TENSORS].values()
        values = {"cosine": min(folder["CosineSimilarity"] for folder in folders),
                  "cosine_worst": min(folder["CosineSimilarity_worst"] for folder in folders),
                  "max_abs": max(folder["MaxAbsoluteError"] for folder in folders),
                  "mismatched": max(folder["Mismatched"] for folder in folders),
                  "argmax": min(folder["argmax_agreement"] for folder in levels[HEATMAPS].values())}
    if KEYPOINTS in levels:
        keypoints = levels[KEYPOINTS]
        values.update(pixels_p95=keypoints["input_pixels"]["p95"], oks=keypoints["oks"]["mean"],
                      scores_p95=keypoints["scores"]["p95"],
                      unmatched=keypoints["unmatched"])
    if SCORE in levels:
        values["ap_change"] = abs(levels[SCORE]["differences"]["AP"])
    return values


def first_difference(verdicts: List[Dict[str, Any]]) -> Optional[str]:
    """The earliest level with a limit that is not kept; None when all are."""
    broken = {verdict["level"] for verdict in verdicts if not verdict["kept"]}
    return next((level for level in LEVELS if level in broken), None)
