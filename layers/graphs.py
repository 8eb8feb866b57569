"""The layers of an ONNX graph.

A layer is a node that the network's input reaches, with one tensor of values as its result, and with it the
BatchNormalization and activation that alone read it, as devices compute them at once: of what a convolution gives, a
Relu may drop all but a small part, and only what is left matters. Casts and quantise-dequantise pairs are no layers,
they belong to the layer that reads them. Weights are what the input does not reach.
"""
from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Dict, Iterable, List, Tuple

import onnx
from onnx import ModelProto, NodeProto, version_converter

from contract.errors import UserError
from contract.files import PathLike
from contract.onnx_file import load_onnx, only_input, opset_of

# The same values, but for rounding, and for ONNX Runtime's blocks of channels.
PASSING = {"Cast", "QuantizeLinear", "DequantizeLinear", "Identity", "Dropout", "ReorderInput", "ReorderOutput"}
BLOCKED = "com.microsoft.nchwc"  # domain of operators whose results lie in such blocks until ReorderOutput
# Part of the layer before, if that is one of FUSING.
FUSED = {"BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "Tanh"}
FUSING = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"}


@dataclasses.dataclass
class Layer:
    """`tensor` is its result, output number `index` of its last node, and `passed` what casts and pairs that alone read
    it make of that. `inputs` are the results of layers (or the network's input) that it reads; `nodes` and `op_types`
    those of its one or more nodes, whose names may be empty; `weights` the shapes of what else it reads, of two axes or
    more. The values of a `blocked` layer can be compared only where `passed` is another tensor."""

    tensor: str
    index: int
    passed: str
    inputs: List[str]
    nodes: List[str]
    op_types: List[str]
    weights: Tuple[Tuple[int, ...], ...]
    blocked: bool = False

    @property
    def name(self) -> str:
        return self.nodes[0] or self.tensor

    @property
    def kind(self) -> str:
        return "+".join(self.op_types)


def load_graph(path: PathLike) -> ModelProto:
    model = load_onnx(path)
    only_input(model, path)
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
            raise UserError(f"the graph has a cycle at {left[0].name or left[0].op_type}")
        waiting = left
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def inputs_of(model: ModelProto) -> List[str]:
    weights = {weight.name for weight in model.graph.initializer}  # which old files list among the inputs
    return [value.name for value in model.graph.input if value.name not in weights]


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
            alone = before and before.passed == node.input[0] and readers[node.input[0]] == 1
            if before and (alone and node.op_type != "ReorderInput" or node.op_type == "ReorderOutput"):
                before.passed = node.output[0]
            continue
        if fused and before and _fuses(before, node) and readers[node.input[0]] == 1:
            del layers[before.tensor]
            before.nodes.append(node.name)
            before.op_types.append(node.op_type)
            made = [dataclasses.replace(before, tensor=node.output[0], passed=node.output[0])]
        else:
            weights = tuple(shapes[name] for name in node.input if len(shapes.get(name, ())) > 1)
            made = [Layer(name, number, name, reads, [node.name], [node.op_type], weights, node.domain == BLOCKED)
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


def serialize_exposing(model: ModelProto, tensors: Iterable[str]) -> bytes:
    """The file of the same graph with these tensors as its outputs; no copy of the weights is made but in that."""
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    content = model.SerializeToString()
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return content


def copy_of(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    del copied.graph.value_info[:]  # shapes and types of tensors that are about to change
    return copied
