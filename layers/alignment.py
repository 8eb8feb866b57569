"""Which layer of one ONNX graph is which of another.

Walking down the second graph, a layer's counterpart is the layer of the first that has the same operator, reads the
counterparts of what it reads (whatever axes were put in or taken out between), and has weights of the same shapes.
Where there are several, it is the one of the same name, else the first that is free. Where there is none, because a
tool has put in or left out a layer before it, it is the layer with the same tensor name and operator, and then,
exporters having operators and names of their own, the layer that gives the same values. A layer without counterpart
that reads one other stands for that. An activation that one graph has and the other has not, because a range of
quantised values clips as it does, is looked for in the pair behind the layer.
"""
from __future__ import annotations

import dataclasses
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np
from onnx import ModelProto

from contract.errors import UserError
from layers.graphs import Layer, find_layers, inputs_of

LEAST = 0.5  # of the first graph's layers must have a counterpart; another network has few, a rewritten one nearly all
SAME_VALUES = 1e-3  # relative distance; exporters' graphs of one network are 1e-6 apart, its layers 0.1 and more

# By exporters' habits.
SAME_OPERATOR = {"ReduceMean": "GlobalAveragePool", "Reshape": "Flatten", "FusedConv": "Conv", "FusedGemm": "Gemm"}
SAME_NUMBERS = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}  # in another shape

Values = Mapping[str, np.ndarray]  # tensor -> (n, ...) of the same people


@dataclasses.dataclass
class Alignment:
    """`pairs`: tensor of a -> tensor of b, of the network's input too; `alone` and `alone_b`: layers that only one
    has."""

    layers: List[Layer]
    pairs: Dict[str, str]
    alone: List[Layer]
    alone_b: List[Layer]


def align(a: ModelProto, b: ModelProto, names: Tuple[str, str],
          values: Optional[Tuple[Values, Values]] = None) -> Alignment:
    """Raises UserError when the graphs are of different networks; `names` are what it calls them. `values`, of a's and
    b's tensors, tell layers that the graphs alone do not."""
    layers_b = find_layers(b)
    counterparts, before = Counterparts(find_layers(a), *(values or ({}, {}))), sources(layers_b)
    found: Dict[str, str] = {inputs_of(b)[0]: inputs_of(a)[0]}  # of b -> of a
    pairs = {inputs_of(a)[0]: inputs_of(b)[0]}
    alone_b = []
    for layer in layers_b:
        mine = counterparts.take(layer, [found.get(name) for name in before[layer.tensor]])
        theirs = layer.tensor if mine and mine.op_types == layer.op_types and not layer.blocked else layer.passed
        if mine is not None:
            found[layer.tensor] = mine.tensor
        elif len(before[layer.tensor]) == 1 and before[layer.tensor][0] in found:  # put in between two of a's layers
            found[layer.tensor] = found[before[layer.tensor][0]]
        if mine is not None and counterparts.comparable(mine, layer, theirs):
            pairs[mine.tensor] = theirs
        else:
            alone_b.append(layer)
    layers = counterparts.layers
    taken = len(layers) - len(counterparts.free)
    if taken < LEAST * len(layers):
        raise UserError(f"{names[1]}: has a counterpart to only {taken} of the {len(layers)} layers of "
                        f"{names[0]}. They are different networks")
    return Alignment(layers, pairs, [layer for layer in layers if layer.tensor not in pairs], alone_b)


class Counterparts:
    """The layers of a that are not taken yet."""

    def __init__(self, layers: List[Layer], values_a: Values, values_b: Values):
        self.layers, self.values_a, self.values_b = layers, values_a, values_b
        self.free = {layer.tensor: layer for layer in layers}
        self.by_key: Dict[tuple, List[Layer]] = {}
        before = sources(layers)
        for layer in layers:
            self.by_key.setdefault(_key(layer, before[layer.tensor]), []).append(layer)

    def take(self, layer: Layer, reads: List[Optional[str]]) -> Optional[Layer]:
        """The counterpart of a layer of b; `reads` are counterparts of what it reads."""
        known = [name for name in reads if name is not None]
        alike = [] if len(known) < len(reads) else [
            mine for mine in self.by_key.get(_key(layer, known), ())
            if mine.tensor in self.free and self.like(mine, layer, layer.passed)]
        alike.sort(key=lambda mine: not self.same_shape(mine, layer.passed))
        namesake = self.free.get(layer.tensor)
        if namesake and (_operator(namesake) != _operator(layer) or not self.same_shape(namesake, layer.passed)):
            namesake = None
        mine = (namesake if namesake in alike else alike[0]) if alike else namesake or self.of_same_values(layer)
        if mine is not None:
            del self.free[mine.tensor]
        return mine

    def same_shape(self, mine: Layer, theirs: str) -> bool:
        """Of one person; unknown shapes may be the same."""
        if mine.tensor not in self.values_a or theirs not in self.values_b:
            return True
        return self.values_a[mine.tensor].shape == self.values_b[theirs].shape

    def like(self, mine: Layer, layer: Layer, theirs: str) -> bool:
        """Of the same shape, or maps of another height and width, which an operator gives that pads or rounds
        otherwise."""
        if self.same_shape(mine, theirs):
            return True
        shape_a, shape_b = self.values_a[mine.tensor].shape, self.values_b[theirs].shape
        return mine.op_types[0] == layer.op_types[0] and len(shape_a) == len(shape_b) == 4 and \
            shape_a[:2] == shape_b[:2]

    def comparable(self, mine: Layer, layer: Layer, theirs: str) -> bool:
        return self.like(mine, layer, theirs) and not (layer.blocked and theirs == layer.tensor)

    def of_same_values(self, layer: Layer) -> Optional[Layer]:
        """The free layer whose values are nearest, if they are near enough; of equals, one of the same shape."""
        theirs = self.values_b.get(layer.passed)
        if theirs is None or layer.blocked and layer.passed == layer.tensor or not np.any(theirs):
            return None
        distances = {mine.tensor: _distance(self.values_a[mine.tensor], theirs) for mine in self.free.values()
                     if mine.tensor in self.values_a and self.values_a[mine.tensor].size == theirs.size}
        near = [name for name, distance in distances.items() if distance < SAME_VALUES]
        near.sort(key=lambda name: (self.values_a[name].shape != theirs.shape, distances[name]))
        return self.free[near[0]] if near else None


def _distance(mine: np.ndarray, theirs: np.ndarray) -> float:
    """|mine - theirs| / |theirs|."""
    difference = mine.ravel().astype(np.float64) - theirs.ravel()
    return float(np.linalg.norm(difference) / np.linalg.norm(theirs.astype(np.float64)))


def sources(layers: List[Layer]) -> Dict[str, List[str]]:
    """Layer's tensor -> what it reads, through layers that change the shape alone."""
    makers, before = {layer.tensor: layer for layer in layers}, {}
    for layer in layers:
        before[layer.tensor] = list(layer.inputs)
        for place, name in enumerate(layer.inputs):
            while name in makers and makers[name].op_types[0] in SAME_NUMBERS:
                name = makers[name].inputs[0]
            before[layer.tensor][place] = name
    return before


def _operator(layer: Layer) -> str:
    return SAME_OPERATOR.get(layer.op_types[0], layer.op_types[0])


def _key(layer: Layer, reads: List[str]) -> tuple:
    return _operator(layer), tuple(sorted(reads)), layer.weights
