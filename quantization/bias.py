"""Bias correction: int8 weights and inputs shift the mean of what a layer gives, and its bias can take that back.

Every layer is run beside the float network on what float layers give, so that its shift is its own (Nagel et al.,
Data-free quantization through weight equalization and bias correction, 2019, with measured means for computed ones).
"""
from __future__ import annotations

from typing import Dict, Iterable, List

import numpy as np
from onnx import ModelProto, TensorProto

from contract.files import PathLike
from contract.onnx_file import only_input
from layers.grafting import isolate
from layers.graphs import serialize_exposing
from quantization.decision import Decision
from quantization.graph import WITH_BIAS, Graph
from quantization.qdq import FORMS, find_places, given_name, layers_of, to_qdq
from quantization.running import batch_of, open_session, run


def bias_corrections(model: ModelProto, decision: Decision, form: str, batches: Iterable[np.ndarray],
                     path: PathLike) -> Dict[str, List[float]]:
    """Node -> (channels,) to add to its bias, of the prepared `model` on batches of (n, ...) rows."""
    graph = Graph(model)
    layers = [node for node in layers_of(graph, FORMS[form]) if node.op_type in WITH_BIAS]
    places = find_places(graph, FORMS[form], {})
    pairs = {name: given_name(graph, places, name) for node in layers for name in (node.input[0], node.output[0])}
    types = dict.fromkeys(pairs.values(), int(TensorProto.FLOAT))
    source = only_input(model, path)  # of bytes, it may be
    pairs[source.name], types[source.name] = source.name, source.type.tensor_type.elem_type
    both, alone = isolate(model, to_qdq(model, decision, form), pairs, types)
    names = [name for node in layers for name in (node.output[0], alone[node.output[0]])]
    session = open_session(serialize_exposing(both, names), path)
    shifts, count, at_once = {node.name: np.zeros(1) for node in layers}, 0, batch_of(session) or 1
    for rows in batches:
        for part in np.split(rows, range(at_once, len(rows), at_once)):
            values = iter(run(session, names, part, path))
            for node, expected, came in zip(layers, values, values):
                off = expected.astype(np.float64) - came
                shifts[node.name] = shifts[node.name] + off.mean(axis=tuple(range(2, off.ndim))).sum(axis=0)
        count += len(rows)
    return {name: [float(f"{value:.6g}") for value in shift / count] for name, shift in shifts.items()}
