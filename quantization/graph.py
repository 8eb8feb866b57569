"""The float network that int8 is decided for: batch norm folded into the weights before it, every node with a name."""
from __future__ import annotations

from collections import defaultdict
from typing import Dict, List, Optional, Set

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper, shape_inference

from contract.errors import UserError
from contract.files import PathLike
from layers.graphs import copy_of, sort_nodes, with_opset

PER_CHANNEL_OPSET = 13  # of ONNX, where QuantizeLinear got an axis
INT8_OPERATORS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger",
                  "QLinearConv", "QLinearMatMul", "AscendQuant", "AscendDequant"}
WITH_BIAS = {"Conv", "ConvTranspose", "Gemm"}  # MatMul takes none
EPSILON = 1e-5  # of BatchNormalization, where a node does not say


class Graph:
    """Who makes and who reads each tensor of a model, and the values of its weights."""

    def __init__(self, model: ModelProto):
        self.model = model
        self.weights: Dict[str, TensorProto] = {weight.name: weight for weight in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in self.weights]
        self.outputs: Set[str] = {value.name for value in model.graph.output}
        self.makers: Dict[str, NodeProto] = {name: node for node in model.graph.node for name in node.output}
        self.readers: Dict[str, List[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)

    def only_reader(self, tensor: str) -> Optional[NodeProto]:
        readers = self.readers[tensor]
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def values(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.weights[name])

    def replace(self, name: str, values: np.ndarray) -> None:
        self.weights[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def multiplications(model: ModelProto) -> Dict[str, int]:
    """Node with constant weights -> multiplications for one row; heights and widths must be known."""
    inferred = shape_inference.infer_shapes(model).graph
    sizes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
             for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    weights = {weight.name: int(np.prod(weight.dims)) for weight in model.graph.initializer}
    counts = {}
    for node in model.graph.node:
        if node.op_type in WITH_BIAS | {"MatMul"} and node.input[1] in weights:
            moved = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
            counts[node.name] = weights[node.input[1]] * int(np.prod(sizes.get(moved, ())[2:]))
    return counts


def prepare(model: ModelProto, path: PathLike) -> ModelProto:
    """A copy of the float `model` as it is calibrated and quantised: the same inputs, outputs and numbers.

    `path` names it in errors. Raises UserError when it is int8 already.
    """
    found = sorted({node.op_type for node in model.graph.node} & INT8_OPERATORS)
    if found:
        raise UserError(f"{path}: is int8 already ({', '.join(found)}). Give the float32 file that it was made from")
    prepared = copy_of(model)
    _drop_spatial(prepared)
    prepared = with_opset(prepared, PER_CHANNEL_OPSET, path)
    sort_nodes(prepared)
    _constants_to_weights(prepared)
    _drop_listed_weights(prepared)
    _name_nodes(prepared)
    _give_bias(prepared)
    _fold_batch_norm(prepared)
    return prepared


def _drop_spatial(model: ModelProto) -> None:
    """MXNet's exporter writes spatial=0 beside numbers per channel, which only spatial=1, the default, can mean."""
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            settings = [attribute for attribute in node.attribute if attribute.name != "spatial"]
            del node.attribute[:]
            node.attribute.extend(settings)


def _constants_to_weights(model: ModelProto) -> None:
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            weight = model.graph.initializer.add()
            weight.CopyFrom(node.attribute[0].t)
            weight.name = node.output[0]
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _drop_listed_weights(model: ModelProto) -> None:
    """Old files list weights among the inputs, where a caller could replace them."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _name_nodes(model: ModelProto) -> None:
    """Decisions and keep lists tell nodes by name: one without a name is called by its result, as is a namesake."""
    taken: Set[str] = set()
    for node in model.graph.node:
        if not node.name or node.name in taken:
            node.name = next(filter(None, node.output))
        taken.add(node.name)


def _give_bias(model: ModelProto) -> None:
    """Of zeros, to each layer that can have one: batch norm and corrections of int8 go into it."""
    graph = Graph(model)
    for node in model.graph.node:
        if node.op_type in WITH_BIAS and node.input[1] in graph.weights and len(node.input) < 3:
            settings = {attribute.name: attribute.i for attribute in node.attribute}
            shape = graph.weights[node.input[1]].dims
            channels = {"Conv": shape[0], "ConvTranspose": shape[1] * settings.get("group", 1),
                        "Gemm": shape[0 if settings.get("transB", 0) else 1]}[node.op_type]
            node.input.append(f"{node.name}/bias")
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(channels, np.float32), node.input[2]))


def _fold_batch_norm(model: ModelProto) -> None:
    """Into the convolution or deconvolution that alone feeds it."""
    graph = Graph(model)
    folded = set()
    for norm in model.graph.node:
        before = graph.makers.get(norm.input[0])
        if norm.op_type == "BatchNormalization" and before is not None and _folds(graph, before, norm):
            _fold(graph, before, norm)
            folded.add(norm.name)
    nodes = [node for node in model.graph.node if node.name not in folded]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input} | graph.outputs
    weights = [weight for weight in model.graph.initializer if weight.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)


def _folds(graph: Graph, before: NodeProto, norm: NodeProto) -> bool:
    weights = [*before.input[1:], *norm.input[1:]]
    return before.op_type in ("Conv", "ConvTranspose") and graph.only_reader(norm.input[0]) is norm and \
        all(name in graph.weights for name in weights) and \
        all(len(graph.readers[name]) == 1 for name in before.input[1:])


def _fold(graph: Graph, before: NodeProto, norm: NodeProto) -> None:
    scale, shift, mean, variance = (graph.values(name).astype(np.float64) for name in norm.input[1:5])
    epsilon = next((one.f for one in norm.attribute if one.name == "epsilon"), EPSILON)
    factor = scale / np.sqrt(variance + epsilon)
    weights = graph.values(before.input[1])
    if before.op_type == "Conv":
        shaped = factor.reshape(-1, *[1] * (weights.ndim - 1))
    else:  # (inputs, outputs of a group, ...): each group's inputs lie beside each other
        groups = next((one.i for one in before.attribute if one.name == "group"), 1)
        shaped = np.repeat(factor.reshape(groups, -1), len(weights) // groups, axis=0)
        shaped = shaped.reshape(*weights.shape[:2], *[1] * (weights.ndim - 2))
    graph.replace(before.input[1], weights * shaped)
    graph.replace(before.input[2], (graph.values(before.input[2]) - mean) * factor + shift)
    before.output[0] = norm.output[0]
