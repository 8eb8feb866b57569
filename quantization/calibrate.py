"""Ranges of a network's tensors over many crops, collected batch by batch: no activation is stored."""
from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional

import numpy as np
from onnx import ModelProto

from contract.errors import UserError
from contract.files import PathLike
from contract.ranges import Range
from layers.graphs import serialize_exposing
from quantization.graph import Graph
from quantization.qdq import tensors_to_calibrate
from quantization.running import open_session, run


def calibrate(model: ModelProto, batches: Iterable[np.ndarray], path: PathLike,
              begun: Optional[Mapping[str, Range]] = None) -> Dict[str, Range]:
    """Tensor -> its range, of the prepared `model`; batches: (n, ...) rows as the model takes them, each read once.

    `path` names the model in errors; `begun` are the ranges of earlier rows, which are added to. Raises UserError where
    a tensor is not finite, by its name.
    """
    tensors = tensors_to_calibrate(Graph(model))
    if not tensors:
        raise UserError(f"{path}: holds no layer that can be int8: expected Conv, ConvTranspose, Gemm or MatMul with "
                        "constant weights")
    session = open_session(serialize_exposing(model, tensors), path)
    ranges = {name: begun[name] if begun else Range() for name in tensors}
    for rows in batches:
        for name, values in zip(tensors, run(session, tensors, rows, path)):
            _add(ranges[name], values, name, path)
    return ranges


def _add(collected: Range, values: np.ndarray, name: str, path: PathLike) -> None:
    try:
        for row in values:
            collected.add(row)
    except UserError:
        raise UserError(f"{path}: {name} holds values that are not finite (NaN or infinite) on these bins. Is the "
                        "model complete, and were the bins made for it?") from None


def dead_tensors(ranges: Mapping[str, Range]) -> List[str]:
    """Those that were 0 all the time: int8 of them is 0 too, also where other crops would not be."""
    return [name for name, collected in ranges.items() if collected.largest == 0]
