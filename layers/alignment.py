"""Which layer of one ONNX graph is which of another.

Walking down the second graph, a layer's counterpart is the layer of the first that has the same operator, reads the
counterparts of what it reads, and has weights of the same shapes; where there are several, the one of the same name,
else the first that is free. Where there is none, because a tool has put in or left out a layer before it, it is the
layer with the same tensor name and operator. An activation that one graph has and the other has not, because a range of
quantised values clips as it does, is looked for in the pair behind the layer.
"""
from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Tuple

from onnx import ModelProto

from layers.graphs import Layer, find_layers, inputs_of
from contract.errors import UserError

LEAST = 0.5  # of the first graph's layers must have a counterpart; another network has few, a rewritten one nearly all


@dataclasses.dataclass
class Alignment:
    """`pairs`: tensor of a -> tensor of b, of the network's input too; `alone` and `alone_b`: layers that only one
    has."""

    layers: List[Layer]
    pairs: Dict[str, str]
    alone: List[Layer]
    alone_b: List[Layer]


def align(a: ModelProto, b: ModelProto, names: Tuple[str, str]) -> Alignment:
    """Raises UserError when the graphs are of different networks; `names` are what it calls them."""
    layers, free = find_layers(a), {layer.tensor: layer for layer in find_layers(a)}
    by_key: Dict[tuple, List[Layer]] = {}
    for layer in layers:
        by_key.setdefault(_key(layer, layer.inputs), []).append(layer)
    found = {inputs_of(b)[0]: inputs_of(a)[0]}  # of b -> of a
    pairs = {inputs_of(a)[0]: inputs_of(b)[0]}
    alone_b = []
    for layer in find_layers(b):
        mine = _counterpart(layer, [found.get(name) for name in layer.inputs], by_key, free)
        if mine is None:
            alone_b.append(layer)
        else:
            found[layer.tensor] = mine.tensor
            pairs[mine.tensor] = layer.tensor if layer.op_types == mine.op_types else layer.passed
            del free[mine.tensor]
    if len(free) > (1 - LEAST) * len(layers):
        raise UserError(f"{names[1]}: has a counterpart to only {len(layers) - len(free)} of the {len(layers)} layers "
                        f"of {names[0]}. They are different networks")
    return Alignment(layers, pairs, list(free.values()), alone_b)


def _counterpart(layer: Layer, reads: List[Optional[str]], by_key: Dict[tuple, List[Layer]],
                 free: Dict[str, Layer]) -> Optional[Layer]:
    """`reads`: counterparts of what the layer reads."""
    alike = [] if None in reads else [other for other in by_key.get(_key(layer, reads), ()) if other.tensor in free]
    namesake = free.get(layer.tensor)
    if alike:
        return namesake if namesake in alike else alike[0]
    return namesake if namesake and namesake.op_types[0] == layer.op_types[0] else None


def _key(layer: Layer, reads: List[str]) -> tuple:
    return layer.op_types[0], tuple(sorted(reads)), layer.weights
