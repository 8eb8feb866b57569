"""Layers that are known to lose most in int8, by words that say why: for who does not want them measured."""
from __future__ import annotations

from typing import Callable, Dict, Iterable, Sequence, Set

from onnx import NodeProto

from contract.errors import UserError
from quantization.graph import Graph
from quantization.qdq import WEIGHTED, Form, layers_of

UPSAMPLING = {"ConvTranspose", "Resize", "Upsample", "DepthToSpace"}
PASSING = {"Relu", "Clip", "LeakyRelu", "PRelu", "BatchNormalization", "Identity", "Reshape"}
SHUFFLED_AXES = 6  # of the Transpose that exporters write for a pixel shuffle, between two Reshapes


def is_upsampled(graph: Graph, layer: NodeProto) -> bool:
    maker = graph.makers.get(layer.input[0])
    while maker is not None and maker.op_type in PASSING:
        maker = graph.makers.get(maker.input[0])
    if maker is None:
        return False
    axes = next((len(one.ints) for one in maker.attribute if one.name == "perm"), 0)
    return maker.op_type in UPSAMPLING or maker.op_type == "Transpose" and axes == SHUFFLED_AXES


def is_first(graph: Graph, layer: NodeProto) -> bool:
    after: Set[str] = set()  # tensors that a layer with weights has gone into
    for node in graph.model.graph.node:
        if node.op_type in WEIGHTED or after.intersection(node.input):
            after.update(node.output)
    return after.isdisjoint(layer.input)


def is_last(graph: Graph, layer: NodeProto) -> bool:
    before: Set[str] = set()  # tensors that go into a layer with weights
    for node in reversed(graph.model.graph.node):
        if node.op_type in WEIGHTED or before.intersection(node.output):
            before.update(node.input)
    return before.isdisjoint(layer.output)


def is_depthwise(graph: Graph, layer: NodeProto) -> bool:
    return any(one.name == "group" and one.i > 1 for one in layer.attribute)


# The word of --keep -> why its layers stay float, and which they are.
WORDS: Dict[str, Callable[[Graph, NodeProto], bool]] = {
    "upsampled": is_upsampled, "first": is_first, "last": is_last, "depthwise": is_depthwise}
REASONS = {"upsampled": "reads an upsampled map, where a few values lie far above the rest",
           "first": "the first: reads the crop itself", "last": "the last: its levels are those of the output",
           "depthwise": "has few weights for each channel, and no others to even out their rounding"}


def choose_kept(graph: Graph, form: Form, asked: Iterable[str]) -> Dict[str, str]:
    """Layer to keep -> why. `asked`: WORDS, and names of layers. Raises UserError for a name that is not there, and
    where there are no layers."""
    layers = layers_of(graph, form)
    if not layers:
        raise UserError(f"the model holds no layer that can be int8: expected {', '.join(sorted(form.layers))} with "
                        "constant weights")
    kept: Dict[str, str] = {}
    for word in asked:
        found = [layer.name for layer in layers if word in WORDS and WORDS[word](graph, layer) or word == layer.name]
        if not found and word not in WORDS:
            raise UserError(f"--keep {word}: no such layer that could be int8. Expected {', '.join(WORDS)}, or a name "
                            f"such as {layers[0].name}")
        for name in found:
            kept.setdefault(name, REASONS.get(word, "asked for"))
    refuse_all(kept, layers)
    return kept


def refuse_all(kept: Dict[str, str], layers: Sequence[NodeProto]) -> None:
    if len(kept) >= len(layers):
        raise UserError(f"all {len(layers)} layers would stay float, and nothing would be int8. Keep fewer")
