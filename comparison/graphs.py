"""The layers of an ONNX graph, and graphs put together from two: what comparing layer by layer needs.

A layer is a node that the network's input reaches, with one tensor of values as its result, and with it the
BatchNormalization and activation that alone read it, as devices compute them at once: of what a convolution gives, a
Relu may drop all but a small part, and only what is left matters. Casts and quantise-dequantise pairs are no layers, they
belong to the layer that reads them. Weights are what the input does not reach.
"""
from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Dict, Iterable, List, Set, Tuple

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, version_converter

from pose.errors import UserError
from pose.files import PathLike

PASSING = {"Cast", "QuantizeLinear", "DequantizeLinear", "Identity", "Dropout"}  # the same values, but for rounding
FUSED = {"BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Clip"}  # part of the layer before, if that is one of
FUSING = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"}
GUEST = "guest/"  # before every name that comes from the other graph


@dataclasses.dataclass
class Layer:
    """`tensor` is its result, output number `index` of its last node, and `passed` what casts and pairs that alone read
    it make of that. `inputs` are the results of layers (or the network's input) that it reads; `nodes` and `op_types`
    those of its one or more nodes, whose names may be empty; `weights` the shapes of what else it reads, of two axes or
    more."""

    tensor: str
    index: int
    passed: str
    inputs: List[str]
    nodes: List[str]
    op_types: List[str]
    weights: Tuple[Tuple[int, ...], ...]

    @property
    def name(self) -> str:
        return self.nodes[0] or self.tensor

    @property
    def kind(self) -> str:
        return "+".join(self.op_types)


def load_graph(path: PathLike) -> ModelProto:
    try:
        model = onnx.load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such model file") from None
    except Exception as error:  # protobuf's errors have no public base class
        raise UserError(f"{path}: cannot be read as ONNX: {' '.join(str(error).split())}") from None
    if len(inputs_of(model)) != 1:
        raise UserError(f"{path}: expected a network of one input, got {len(inputs_of(model))}")
    sort_nodes(model)
    return model


def sort_nodes(model: ModelProto) -> None:
    """Put every node behind those that it reads, which some converters neglect; nodes in order stay in order."""
    waiting, made = list(model.graph.node), {name for node in model.graph.node for name in node.output}
    ordered: List[NodeProto] = []
    while waiting:
        left = []
        for node in waiting:
            if made.isdisjoint(node.input):
                ordered.append(node)
                made.difference_update(node.output)
            else:
                left.append(node)
        if len(left) == len(waiting):
            raise UserError(f"the graph has a circle at {left[0].name or left[0].op_type}")
        waiting = left
    ordered = [NodeProto.FromString(node.SerializeToString()) for node in ordered]  # they die with their list
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def inputs_of(model: ModelProto) -> List[str]:
    weights = {weight.name for weight in model.graph.initializer}  # which old files list among the inputs
    return [value.name for value in model.graph.input if value.name not in weights]


def opset_of(model: ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def with_opset(model: ModelProto, opset: int, path: PathLike) -> ModelProto:
    """`model` in the words of a later opset, which two graphs need to be put together."""
    if opset_of(model) >= opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # the converter's own errors and RuntimeError of its C++ half
        raise UserError(f"{path}: of opset {opset_of(model)}, and cannot be brought to opset {opset} "
                        f"({' '.join(str(error).split())}). Export it with opset {opset}") from None


def find_layers(model: ModelProto, fused: bool = True) -> List[Layer]:
    """In the order of the graph, which is that of their computation; not `fused`, every node by itself."""
    source = {name: name for name in inputs_of(model)}  # tensor that holds values -> the layer's tensor it stands for
    shapes = _weight_shapes(model)
    readers = Counter([*(name for node in model.graph.node for name in node.input),
                       *(value.name for value in model.graph.output)])
    layers: Dict[str, Layer] = {}
    for node in model.graph.node:
        reads = list(dict.fromkeys(source[name] for name in node.input if name in source))
        if not reads or node.op_type == "Shape":
            continue
        before = layers.get(reads[0])
        if node.op_type in PASSING:
            source[node.output[0]] = reads[0]
            if before and before.passed == node.input[0] and readers[node.input[0]] == 1:
                before.passed = node.output[0]
            continue
        if fused and before and _fuses(before, node) and readers[node.input[0]] == 1:
            del layers[before.tensor]
            before.nodes.append(node.name)
            before.op_types.append(node.op_type)
            made = [dataclasses.replace(before, tensor=node.output[0], passed=node.output[0])]
        else:
            weights = tuple(shapes[name] for name in node.input if len(shapes.get(name, ())) > 1)
            made = [Layer(name, number, name, reads, [node.name], [node.op_type], weights)
                    for number, name in enumerate(node.output) if name]
        for layer in made:
            layers[layer.tensor] = layer
            source[layer.tensor] = layer.tensor
    return list(layers.values())


def _fuses(before: Layer, node: NodeProto) -> bool:
    """Whether a node that reads nothing but this layer's own tensor is part of it."""
    return node.op_type in FUSED and before.op_types[0] in FUSING and before.tensor == node.input[0] and \
        before.op_types[-1] in FUSING | {"BatchNormalization"}


def _weight_shapes(model: ModelProto) -> Dict[str, Tuple[int, ...]]:
    """Of initializers and constants, also behind casts and quantise-dequantise pairs."""
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            shapes[node.output[0]] = tuple(node.attribute[0].t.dims)
        elif node.op_type in PASSING and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    return shapes


def expose(model: ModelProto, tensors: Iterable[str]) -> ModelProto:
    """The same graph with these tensors as its outputs."""
    exposed = copy_of(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return exposed


def copy_of(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    del copied.graph.value_info[:]  # shapes and types of tensors that are about to change
    return copied


def isolate(host: ModelProto, guest: ModelProto, pairs: Dict[str, str], types: Dict[str, int]) -> Tuple[
        ModelProto, Dict[str, str]]:
    """`host`, and beside it every layer of `guest` once more, reading the results of the host's layers.

    pairs: the host's tensor -> the guest's; types: the element type of each of the guest's. Returns the graph, and
    the host's tensor -> the name of what the guest's layer makes of the host's inputs.
    """
    graft = Graft(guest, {theirs: mine for mine, theirs in pairs.items()}, host, types)
    nodes = graft.nodes_of([theirs for mine, theirs in pairs.items() if mine not in inputs_of(host)])
    both = copy_of(host)
    both.graph.node.extend(nodes)
    both.graph.initializer.extend(graft.weights)
    return both, {mine: GUEST + theirs for mine, theirs in pairs.items() if mine not in inputs_of(host)}


def transplant(host: ModelProto, guest: ModelProto, pairs: Dict[str, str], tensors: Iterable[str],
               types: Tuple[Dict[str, int], Dict[str, int]]) -> ModelProto:
    """`host` with the layers that make `tensors`, of the host, replaced by the guest's.

    pairs: the host's tensor -> the guest's; types: element types of the host's and of the guest's tensors.
    """
    graft = Graft(guest, {theirs: mine for mine, theirs in pairs.items()}, host, types[1])
    replaced = {name for name in tensors}
    nodes: List[NodeProto] = []
    for node in host.graph.node:
        for name in replaced.intersection(node.output):
            nodes += graft.nodes_of([pairs[name]])
            nodes.append(helper.make_node("Cast", [GUEST + pairs[name]], [name], to=types[0][name]))
        kept = NodeProto()
        kept.CopyFrom(node)
        kept.output[:] = [f"{name}/replaced" if name in replaced else name for name in node.output]
        nodes.append(kept)
    mixed = copy_of(host)
    del mixed.graph.node[:]
    mixed.graph.node.extend(nodes)
    mixed.graph.initializer.extend(graft.weights)
    return prune(mixed)


class Graft:
    """Nodes of one graph to be put into another, where they read the host's tensors in place of their own."""

    def __init__(self, guest: ModelProto, places: Dict[str, str], host: ModelProto, types: Dict[str, int]):
        """places: tensor of the guest -> the host's; types: element type that the guest's nodes expect of each."""
        self.guest, self.places, self.types = guest, places, types
        self.makers = {name: node for node in guest.graph.node for name in node.output}
        self.initializers = {weight.name: weight for weight in guest.graph.initializer}
        self.weights: List[TensorProto] = []
        self.done: Set[str] = set()

    def nodes_of(self, tensors: List[str]) -> List[NodeProto]:
        """What makes `tensors`, each called GUEST and its name; nodes and weights that were given before are not
        given again."""
        nodes: List[NodeProto] = []
        for name in tensors:
            self._add(name, nodes)
        return nodes

    def _add(self, tensor: str, nodes: List[NodeProto]) -> None:
        if not tensor or GUEST + tensor in self.done:
            return
        self.done.add(GUEST + tensor)
        if tensor in self.initializers:
            weight = TensorProto()
            weight.CopyFrom(self.initializers[tensor])
            weight.name = GUEST + tensor
            self.weights.append(weight)
            return
        node = NodeProto()
        node.CopyFrom(self.makers[tensor])
        self.done.update(GUEST + name for name in node.output)
        node.name = node.name and GUEST + node.name
        node.input[:] = [self._input(name, nodes) for name in node.input]
        node.output[:] = [GUEST + name if name else "" for name in node.output]
        nodes.append(node)

    def _input(self, name: str, nodes: List[NodeProto]) -> str:
        if name not in self.places:
            self._add(name, nodes)
            return GUEST + name if name else ""
        read = f"{GUEST}read/{name}"
        if read not in self.done:
            self.done.add(read)
            nodes.append(helper.make_node("Cast", [self.places[name]], [read], to=self.types[name]))
        return read


def prune(model: ModelProto) -> ModelProto:
    """Remove nodes and weights that no output needs; returns `model`."""
    needed = {value.name for value in model.graph.output}
    nodes = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    weights = [weight for weight in model.graph.initializer if weight.name in needed]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(nodes))
    model.graph.initializer.extend(weights)
    return model
