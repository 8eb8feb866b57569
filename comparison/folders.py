"""Whether two folders of dumps agree as far as the precision of their runs lets them: what a speed-up needs."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Dict

import numpy as np

from comparison.gates import GATES, LIMITS
from contract.errors import UserError
from contract.manifest import bins_in
from contract.pixels import FLOAT32
from contract.spec import Spec, row_bytes
from pose.metrics import cosines, tensor_metrics, tensor_sums

SAME = 1e-3  # largest difference of two float32 runs, of the largest value of the reference


def check_folders(dumps: Path, reference: Path, spec: Spec) -> None:
    """Raises UserError unless both hold the same dumps, float32 rows of the outputs of `spec`."""
    ours, theirs = bins_in(dumps), bins_in(reference)
    shape = next(iter(spec.outputs.values()))
    for name in sorted(ours.keys() | theirs.keys()) or [""]:
        if not ours.get(name) or ours.get(name) != theirs.get(name):
            raise UserError(f"{dumps} and {reference}: expected the same dumps, but {name or 'none'} has "
                            f"{ours.get(name, 0)} and {theirs.get(name, 0)} bytes")
        if ours[name] % row_bytes(shape, FLOAT32):
            raise UserError(f"{dumps / name}: {ours[name]} bytes, expected rows of {row_bytes(shape, FLOAT32)} "
                            f"({'x'.join(map(str, shape))} float32). Are the dumps of another --cfg?")


def measure_folders(dumps: Path, reference: Path, spec: Spec, gate: str) -> Dict[str, float]:
    """How all values differ, by the names of comparison.gates, and `largest`, the largest difference as a share of the
    largest value of the reference. Of heatmaps each is a vector; the raw numbers of a detector have neither highest
    cells nor the scale that the gates' tolerances of single elements are made for."""
    shape, of_heatmaps = next(iter(spec.outputs.values())), "heatmaps" in spec.levels
    maps = shape[0] if of_heatmaps else 1
    elements = math.prod(shape) // maps
    sums, same, biggest = [], [], 0.0
    for path in sorted(reference.glob("*.bin")):
        a, b = (np.fromfile(folder / path.name, np.float32).reshape(-1, maps, elements)
                for folder in (reference, dumps))
        sums.append(tensor_sums(a, b, GATES[gate]["atol"], GATES[gate]["rtol"]))
        same.append(a.argmax(axis=2) == b.argmax(axis=2))
        biggest = max(biggest, float(np.abs(a).max()))
    every = np.concatenate(sums)
    metrics = tensor_metrics(every, elements)
    measured = {"largest": metrics["MaxAbsoluteError"] / biggest, "cosine": metrics["CosineSimilarity"],
                "cosine_worst": float(cosines(every.sum(axis=1)).min())}
    if of_heatmaps:
        measured.update(mismatched=metrics["Mismatched"], argmax=float(np.concatenate(same).mean()))
    return measured


def agree(measured: Dict[str, float], gate: str) -> bool:
    """float32: `largest` alone, which leaves no room for the others. Lower: each limit of the gate that was
    measured."""
    if gate == "fp32":
        return measured["largest"] <= SAME
    limits = {name: GATES[gate][name] for name in measured if name in GATES[gate]}
    return all(LIMITS[name].keeps(measured[name], bound) for name, bound in limits.items())
