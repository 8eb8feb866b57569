"""int8 as an ONNX file of QuantizeLinear and DequantizeLinear pairs, written from a Decision.

One int8 tensor is a float tensor through a pair; a runtime that finds pairs about an operator computes it in int8. What
differs between runtimes is where they want pairs and of which numbers: FORMS.
"""
from __future__ import annotations

import dataclasses
from typing import Dict, FrozenSet, List, Mapping, Optional, Set, Tuple

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from layers.graphs import copy_of
from quantization.decision import Decision
from quantization.graph import Graph

LEVELS = 127  # of a weight's magnitude
MOST_BIAS = 2.0**30  # of a bias in int32, which leaves room for the sum that it is added to
FUSED = {"Relu", "Clip"}  # part of the layer before: only what they leave needs a range
# Give values of their input, so that both have one range, or a runtime could not leave the values in place.
MOVING = frozenset({"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace", "Identity"})
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclasses.dataclass(frozen=True)
class Form:
    """layers: operators that are int8 with weights; between: those that are int8 where their neighbours are.

    activations: dtype of tensors; `symmetric` has zero point 0. outputs: what a layer gives has a pair too, without
    which ONNX Runtime computes it in float; but not where nothing that can be int8 reads it, as the network's output
    and what goes into a deconvolution, whose values would be rounded for nothing. float_weights: weights stay float32
    and have a pair, in place of int8 and its DequantizeLinear; their bias is then float32 too, and int32 otherwise.
    """

    layers: FrozenSet[str]
    between: FrozenSet[str]
    activations: str
    symmetric: bool
    outputs: bool
    float_weights: bool


FORMS: Dict[str, Form] = {
    # ONNX Runtime's CPU kernels and OpenVINO. ONNX Runtime has no int8 ConvTranspose.
    "cpu": Form(frozenset({"Conv", "Gemm", "MatMul"}),
                MOVING | {"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Relu",
                          "Clip"},
                "uint8", symmetric=False, outputs=True, float_weights=False),
    "tensorrt": Form(frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"}), frozenset(), "int8",
                     symmetric=True, outputs=False, float_weights=True),
    # What ascend/quantize.py and AMCT's convert_qat_model make Huawei's form of, in which only convolutions are int8:
    # AMCT takes a Gemm with one scale for all channels alone, and msModelSlim no ConvTranspose.
    "ascend": Form(frozenset({"Conv"}), frozenset(), "int8", symmetric=False, outputs=False, float_weights=True),
}


def layers_of(graph: Graph, form: Form) -> List[NodeProto]:
    """The nodes that can be int8 in this form, in the order of the graph: those with weights need them constant, and
    what they read must come from the network's input."""
    return [node for node in graph.model.graph.node if node.op_type in form.layers and
            (node.op_type not in WEIGHTED or node.input[1] in graph.weights) and
            all(name not in graph.weights for name in data_inputs(node))]


def data_inputs(node: NodeProto) -> List[str]:
    """What a node reads that is no weight, no shape and no bound."""
    return list(node.input) if node.op_type in ("Add", "Mul", "Concat") else [node.input[0]]


def result_of(graph: Graph, node: NodeProto) -> str:
    """What a node gives, after the Relu or Clip that alone reads it."""
    reader = graph.only_reader(node.output[0])
    fuses = reader is not None and reader.op_type in FUSED and node.op_type not in MOVING | FUSED
    return reader.output[0] if reader is not None and fuses else node.output[0]


@dataclasses.dataclass
class Places:
    """Where pairs go. nodes: names of those that are int8; ranges: tensor with a pair -> the tensor whose range it has;
    made: those of them that an int8 node gives, which nobody may read but through the pair."""

    nodes: Set[str]
    ranges: Dict[str, str]
    made: Set[str]


def find_places(graph: Graph, form: Form, kept: Mapping[str, str]) -> Places:
    layers = [node for node in layers_of(graph, form) if node.name not in kept]
    made = {result_of(graph, node) for node in layers} if form.outputs else set()
    made = {name for name in made if _can_be_read(graph, form, name)}
    tensors = made | {name for node in layers for name in data_inputs(node)}
    between = _between(graph, form, tensors)
    made |= {result_of(graph, node) for node in between}
    tensors |= made
    source: Dict[str, str] = {}
    for node in between:
        if node.op_type in MOVING:
            source[node.output[0]] = source.get(node.input[0], node.input[0])
    return Places({node.name for node in [*layers, *between]}, {name: source.get(name, name) for name in tensors}, made)


def _can_be_read(graph: Graph, form: Form, name: str) -> bool:
    """Whether something that can be int8 reads this tensor."""
    return any(reader.op_type in form.layers | form.between for reader in graph.readers[name])


def _between(graph: Graph, form: Form, tensors: Set[str]) -> List[NodeProto]:
    """The operators on a way from one int8 tensor to another on which everything else is int8 too."""
    able, fused = {}, set()  # what an operator gives -> the operator; tensors before a Relu that is part of one
    for node in graph.model.graph.node:
        if result_of(graph, node) != node.output[0]:
            fused.add(node.output[0])
        if node.op_type in form.between and node.input[0] not in fused:
            able[result_of(graph, node)] = node
    before, after = set(tensors), set(tensors)
    for result, node in able.items():
        if before.issuperset(data_inputs(node)):
            before.add(result)
    for result, node in reversed(able.items()):
        if result in after:
            after.update(name for name in data_inputs(node)
                         if all(result_of(graph, reader) in after and reader.op_type in form.between
                                for reader in graph.readers[name]))
    return [node for result, node in able.items() if result in after and before.issuperset(data_inputs(node))]


def given_name(graph: Graph, places: Places, name: str) -> str:
    """What the node that makes `name` calls it among pairs: an output of the network keeps its name behind the pair."""
    return f"{name}/float" if name in graph.outputs and name in places.made else name


def tensors_to_calibrate(graph: Graph) -> List[str]:
    """Everything that has a range of its own in any form, in the order of the graph."""
    wanted = {name for form in FORMS.values() for name in find_places(graph, form, {}).ranges.values()}
    return [name for name in [*graph.inputs, *graph.makers] if name in wanted]


def to_qdq(model: ModelProto, decision: Decision, form: str = "cpu") -> ModelProto:
    """The prepared `model` (quantization.graph) with the pairs of a decision, in one of FORMS."""
    writer = _Writer(copy_of(model), FORMS[form], decision)
    return writer.write()


class _Writer:
    def __init__(self, model: ModelProto, form: Form, decision: Decision):
        self.model, self.form, self.decision = model, form, decision
        self.graph = Graph(model)
        self.places = find_places(self.graph, form, decision.kept)
        self.nodes: List[NodeProto] = []

    def write(self) -> ModelProto:
        for name in self.graph.inputs:
            if name in self.places.ranges:
                self._pair(name)
        for node in list(self.model.graph.node):
            if node.name in self.places.nodes and node.op_type in WEIGHTED:
                self._correct(node)
                self._weights(node)
            node.input[:] = [self._read(node, name) for name in node.input]
            results = [name for name in node.output if name in self.places.ranges]
            node.output[:] = [self._given(name) for name in node.output]
            self.nodes.append(node)
            for name in results:
                self._pair(name)
        del self.model.graph.node[:]
        self.model.graph.node.extend(self.nodes)
        _drop_unread(self.model)
        return self.model

    def _given(self, name: str) -> str:
        return given_name(self.graph, self.places, name)

    def _read(self, node: NodeProto, name: str) -> str:
        """An int8 node reads through the pair, and so does everybody where int8 is all that is there."""
        if name not in self.places.ranges or name in self.graph.weights:
            return name
        if node.name in self.places.nodes or name in self.places.made:
            return name if self._given(name) != name else f"{name}/read"
        return name

    def _pair(self, name: str) -> None:
        scale, zero_point = self._activation(name)
        given = self._given(name)
        parts = self._constants(name, np.float32(scale), zero_point)
        self._add("QuantizeLinear", [given, *parts], f"{name}/int8")
        self._add("DequantizeLinear", [f"{name}/int8", *parts], name if given != name else f"{name}/read")

    def _activation(self, name: str) -> Tuple[float, np.ndarray]:
        """Scale and zero point of a tensor."""
        low, high = self.decision.ranges[self.places.ranges[name]]
        if self.form.symmetric:
            return max(-low, high) / LEVELS, np.zeros((), self.form.activations)
        kinds = np.iinfo(self.form.activations)
        scale = (high - low) / (kinds.max - kinds.min)
        return scale, np.array(np.clip(round(kinds.min - low / scale), kinds.min, kinds.max), self.form.activations)

    def _correct(self, node: NodeProto) -> None:
        correction = self.decision.bias.get(node.name)
        if correction:
            name = f"{node.name}/corrected"
            values = self.graph.values(node.input[2]) + np.array(correction, np.float32)
            self.graph.weights[name] = self.model.graph.initializer.add()
            self.graph.weights[name].CopyFrom(numpy_helper.from_array(values, name))
            node.input[2] = name

    def _weights(self, node: NodeProto) -> None:
        values = self.graph.values(node.input[1])
        axis = _channel_axis(node) if self.decision.per_channel else None
        scale = self._weight_scale(node, values, axis)
        shape = [-1 if place == axis else 1 for place in range(values.ndim)]
        name = f"{node.name}/{node.input[1]}"
        parts = self._constants(name, scale.astype(np.float32), np.zeros(scale.shape, np.int8))
        if self.form.float_weights:
            self._add("QuantizeLinear", [node.input[1], *parts], f"{name}/int8", axis)
        else:
            rounded = np.clip(np.rint(values / scale.reshape(shape)), -LEVELS, LEVELS)
            self._constant(f"{name}/int8", rounded.astype(np.int8))
        self._add("DequantizeLinear", [f"{name}/int8", *parts], f"{name}/read", axis)
        node.input[1] = f"{name}/read"
        if len(node.input) > 2 and node.input[2] in self.graph.weights and not self.form.float_weights:
            node.input[2] = self._bias(node, scale)

    def _weight_scale(self, node: NodeProto, values: np.ndarray, axis: Optional[int]) -> np.ndarray:
        """(channels,) or (): 127 levels of the largest weight; more where the bias would not fit beside so small a
        weight, as in a channel that is dead."""
        others = tuple(place for place in range(values.ndim) if place != axis)
        scale = np.abs(values).max(axis=others).astype(np.float64) / LEVELS
        if len(node.input) > 2 and node.input[2] in self.graph.weights:
            bias = np.abs(self.graph.values(node.input[2]).astype(np.float64))
            least = bias / MOST_BIAS / self._activation(node.input[0])[0]
            scale = np.maximum(scale, least if axis is not None else least.max())
        return np.where(scale > np.finfo(np.float32).tiny, scale, 1.0)

    def _bias(self, node: NodeProto, scale: np.ndarray) -> str:
        """In int32, in units of what the products of the layer are multiples of."""
        name = f"{node.name}/{node.input[2]}"
        values = self.graph.values(node.input[2]).astype(np.float64)
        units = np.broadcast_to(scale * self._activation(node.input[0])[0], values.shape).astype(np.float32)
        axis = 0 if scale.ndim else None
        if axis is None:
            units = units[0]
        self._constant(f"{name}/int32", np.rint(values / units).astype(np.int32))
        parts = self._constants(name, units, np.zeros(units.shape, np.int32))
        self._add("DequantizeLinear", [f"{name}/int32", *parts], f"{name}/read", axis)
        return f"{name}/read"

    def _constants(self, name: str, scale: np.ndarray, zero_point: np.ndarray) -> List[str]:
        return [self._constant(f"{name}/scale", scale), self._constant(f"{name}/zero_point", zero_point)]

    def _constant(self, name: str, values: np.ndarray) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _add(self, op_type: str, inputs: List[str], output: str, axis: Optional[int] = None) -> None:
        node = helper.make_node(op_type, inputs, [output], name=f"{output}/{op_type}")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)


def _channel_axis(node: NodeProto) -> Optional[int]:
    """Of the output channels in a layer's weights; None where no axis is theirs alone."""
    settings = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "ConvTranspose":
        return 1 if settings.get("group", 1) == 1 else None
    if node.op_type == "MatMul":
        return 1
    return 0 if node.op_type == "Conv" or settings.get("transB", 0) else 1


def _drop_unread(model: ModelProto) -> None:
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    weights = [weight for weight in model.graph.initializer if weight.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
