"""One layer of a graph as a network of its own: its one to three nodes, its weights, and what it reads."""
from __future__ import annotations

import dataclasses
from typing import Dict, List, Mapping, Optional, Set

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from layers.graphs import Layer, inputs_of
from layers.net import DTYPES, Net

PEOPLE = 2  # in a reproduction


@dataclasses.dataclass
class SingleLayer:
    """`inputs`: what its nodes read that depends on the network's input, (people, ...) each; all else is in `model`,
    whose one output is the layer's."""

    model: ModelProto
    inputs: Dict[str, np.ndarray]

    def run(self, model: Optional[ModelProto] = None) -> Optional[np.ndarray]:
        """The output of this layer, or of a changed copy of `model`; None where ONNX Runtime cannot run that."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1  # starting threads takes longer than a layer
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = onnxruntime.InferenceSession((model or self.model).SerializeToString(), options,
                                                   providers=["CPUExecutionProvider"])
            return session.run(None, self.inputs)[0]
        except Exception:  # onnxruntime's errors share no base class; a change may ask for what no operator can do
            return None


def cut_out(model: ModelProto, layer: Layer, rows: np.ndarray, given: Mapping[str, np.ndarray]) -> SingleLayer:
    """`layer` of `model`, with what it reads when the network's input is `rows` (people, ...), or what is `given`."""
    nodes = nodes_of(model, layer)
    reads, values = reads_of(nodes), dict(given)
    values.update({weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer
                   if weight.name in reads})
    image = inputs_of(model)[0]
    net = Net(model, [*(name for name in reads if name not in values and name != image), layer.tensor], layer.name)
    rows = np.resize(rows, (net.batch or len(rows), *rows.shape[1:]))  # whole batches: nothing is cut off then
    values = {image: rows.astype(DTYPES[net.input.type], copy=False), **net.run(rows), **values}
    reached = reached_by_input(model)
    inputs = {name: values[name][:PEOPLE] for name in reads if name in reached and values[name].dtype.kind == "f"}
    weights = [numpy_helper.from_array(values[name], name) for name in reads if name not in inputs]
    graph = helper.make_graph(nodes, "layer", [_info(name, value) for name, value in inputs.items()],
                              [_info(layer.tensor, values[layer.tensor][:PEOPLE])], weights)
    return SingleLayer(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), inputs)


def nodes_of(model: ModelProto, layer: Layer) -> List[NodeProto]:
    """In the order of computation."""
    makers = {name: node for node in model.graph.node for name in node.output}
    nodes: List[NodeProto] = []
    name = layer.tensor
    for _ in layer.op_types:
        nodes.insert(0, makers[name])
        name = makers[name].input[0]
    return nodes


def reads_of(nodes: List[NodeProto]) -> List[str]:
    """What nodes read and do not make, each once."""
    made = {name for node in nodes for name in node.output}
    return list(dict.fromkeys(name for node in nodes for name in node.input if name and name not in made))


def reached_by_input(model: ModelProto) -> Set[str]:
    """Tensors that depend on the network's input."""
    reached = set(inputs_of(model))
    for node in model.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
    return reached


def _info(name: str, value: np.ndarray) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
