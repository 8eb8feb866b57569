"""Which operator of a layer is computed otherwise, and how.

Nothing is guessed. A kind is named only when the layer, changed so, gives what the other side gives: less than
REPRODUCED of the difference is left. The layer of A is changed to reproduce B; of two graphs, that of B also to
reproduce A. Otherwise the answer is that none of the kinds tried reproduces it.
"""
from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Tuple

import numpy as np
from onnx import ModelProto, helper

from comparison.finding import REPRODUCED, remainder
from layers.grafting import isolate
from layers.graphs import Layer, copy_of, find_layers
from layers.net import DTYPES, Net
from layers.operator_kinds import changed_layers, changed_results
from layers.single_layer import PEOPLE, SingleLayer, cut_out, nodes_of, reached_by_input, reads_of

AS_GOOD = 0.003  # of the difference: kinds that leave so much more than the best explain as well
NONE_TRIED = "none of the kinds tried reproduces the difference"


@dataclasses.dataclass
class OperatorFault:
    """`what` B does at the layer `name` as far as proven, and what that leaves of the difference (None: nothing is
    proven); the layer of A with what it reads, what it gives, and what B gives for the same. `is_another`: B's operator
    or weights are others, which no precision changes."""

    name: str
    operators: str
    what: str
    left: Optional[float]
    layer: SingleLayer
    expected: np.ndarray
    got: np.ndarray
    is_another: bool = False

    @property
    def sentence(self) -> str:
        proof = "" if self.left is None else f"; that leaves {100 * self.left:.2g} % of the difference"
        return f"{self.name} ({self.operators}): {self.what}{proof}"


def fault_of_graphs(a: ModelProto, b: ModelProto, layer: Layer, pairs: Dict[str, str], types: Dict[str, int],
                    rows: np.ndarray) -> Optional[OperatorFault]:
    """Of a layer of `a` whose counterpart in `b` gives something else of the same. pairs: tensors of a -> of b; types:
    element types of b's."""
    both, isolated = isolate(a, b, pairs, types)
    theirs = {pairs[name]: name for name in pairs}
    of_b = next((one for one in find_layers(b) if pairs[layer.tensor] in (one.tensor, one.passed)), None)
    reads = [name for name in reads_of(nodes_of(b, of_b)) if name in reached_by_input(b)] if of_b else []
    known = [theirs[name] for name in reads if name in theirs]
    net = Net(both, [isolated[layer.tensor], *(name for name in known if name in isolated)], "layers of both")
    rows = np.resize(rows, (net.batch or min(len(rows), PEOPLE), *rows.shape[1:]))
    values = {net.input.name: rows.astype(DTYPES[net.input.type]), **net.run(rows)}
    other = None
    if of_b and not of_b.blocked and len(known) == len(reads):
        other = cut_out(b, of_b, rows, {name: values[theirs[name]].astype(helper.tensor_dtype_to_np_dtype(types[name]))
                                        if name in types else values[theirs[name]] for name in reads})
    return find_fault(layer, cut_out(a, layer, rows, {}), values[isolated[layer.tensor]][:PEOPLE], other)


def fault_of_dumps(a: ModelProto, layer: Layer, dumps: Dict[str, np.ndarray],
                   rows: np.ndarray) -> Optional[OperatorFault]:
    """Of a layer whose dump (people, ...) is something else. It has read what was dumped, or where nothing was, what
    `a` gives."""
    read = {name: np.asarray(dumps[name][:len(rows)], np.float32) for name in layer.inputs if name in dumps}
    return find_fault(layer, cut_out(a, layer, rows, read), np.asarray(dumps[layer.tensor][:PEOPLE]))


def find_fault(of: Layer, layer: SingleLayer, got: np.ndarray,
               other: Optional[SingleLayer] = None) -> Optional[OperatorFault]:
    """Of A's `layer` alone, and what B gives (people, ...) when it reads the same; `other` is B's layer, reading that
    too. None where the layer cannot be run by itself."""
    expected, got = layer.run(), got.astype(np.float32, copy=False)
    if expected is None:
        return None
    trials = [(f"the other side computes {text}", residual(layer.run(changed), expected, got))
              for text, changed in changed_layers(layer.model)]
    if other is not None:
        trials += [(f"the other side's layer, changed, gives this side's result: {text}",
                    residual(other.run(changed), got, expected)) for text, changed in changed_layers(other.model)]
    another = choose(trials)
    best = another or choose(result_trials(layer, expected, got))
    if best is None and other is not None:
        best = another = choose([("the other side has other weights",
                                  residual(other.run(with_weights_of(layer.model, other.model)), got, expected))])
    what, left = best if best else (NONE_TRIED, None)
    return OperatorFault(of.name, of.kind, what, left, layer, expected, got, another is not None)


def result_trials(layer: SingleLayer, expected: np.ndarray, got: np.ndarray) -> List[Tuple[str, float]]:
    """Kinds that are fitted to the values, and so say less than a change of the operator."""
    if expected.shape != got.shape:
        return []
    return [(f"on the other side {text}", residual(changed, expected, got))
            for text, changed in changed_results(layer, expected, got)]


def with_weights_of(a: ModelProto, b: ModelProto) -> ModelProto:
    """b's layer with the weights of a's, as far as both have weights of the same shapes in the same order."""
    mixed = copy_of(b)
    for mine, theirs in zip(a.graph.initializer, mixed.graph.initializer):
        if mine.dims == theirs.dims and mine.data_type == theirs.data_type:
            name = theirs.name
            theirs.CopyFrom(mine)
            theirs.name = name
    return mixed


def residual(changed: Optional[np.ndarray], before: np.ndarray, wanted: np.ndarray) -> float:
    """Part of the difference between `before` and `wanted` that is left by `changed`."""
    if changed is None or changed.shape != wanted.shape:
        return np.inf
    infinite = np.isinf(wanted)
    if infinite.any():
        if not np.array_equal(changed[infinite], wanted[infinite]) or np.isinf(changed[~infinite]).any():
            return np.inf
        return float(np.linalg.norm(changed[~infinite] - wanted[~infinite]) /
                     max(float(np.linalg.norm(wanted[~infinite])), 1e-30))
    return remainder(changed, before if before.shape == wanted.shape else np.zeros_like(wanted), wanted)


def choose(trials: List[Tuple[str, float]]) -> Optional[Tuple[str, float]]:
    """The first, which is that of the fewest changes, among those that reproduce the other side as well as the best."""
    least = min((left for _, left in trials), default=np.inf)
    return next((trial for trial in trials if trial[1] <= least + AS_GOOD), None) if least < REPRODUCED else None
