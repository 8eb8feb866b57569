"""A parsed network and its weights as an ONNX graph of plain operators, batch norm folded into the convolutions.

Input `image`: (B, 3, height, width) RGB from 0 to 1. Output `output`: (B, rows, columns), what `detection.decoding`
selects people from: tx, ty, tw, th, objectness, person, best other class. Seven raw numbers of 85 leave the device, and
the host decodes them in float32, because in float16 a position beyond 512 pixels is only good to half a pixel.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from contract.export import IR_VERSIONS
from detection.blocks import (
    BOX_ATTRIBUTES,
    LEAKY_SLOPE,
    Convolution,
    MaxPool,
    Network,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)
from detection.darknet import Arrays

LOWEST = -65504.0  # of float16: never wins against an activation, and survives the conversion to float16
BATCH_NAME = "N"  # of a dynamic batch


def build_onnx(network: Network, weights: Sequence[Arrays], batch: Optional[int] = 1,
               opset: int = 11) -> onnx.ModelProto:
    """The graph for `batch` photos at a time, None for any number. Every other size is static."""
    graph = Graph(opset)
    arrays = iter(weights)
    outputs: List[str] = []  # of each block
    rows: List[str] = []  # of each head
    for number, block in enumerate(network.blocks):
        graph.prefix = f"block{number}"
        last = outputs[-1] if outputs else "image"
        if isinstance(block, Convolution):
            last = _convolution(graph, block, last, next(arrays))
        elif isinstance(block, Yolo):
            rows.append(_people_rows(graph, block, last))
        else:
            last = SIMPLE[type(block)](graph, block, last, outputs)
        outputs.append(last)
    graph.add("Concat", rows, "output", axis=1)
    for values, name, shape in ((graph.proto.input, "image", network.input_shape),
                                (graph.proto.output, "output", network.output_shape)):
        values.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch or BATCH_NAME, *shape]))
    return graph.model


class Graph:
    """Nodes and constants so far; names begin with the block that they belong to.

    They are added in place: onnx.helper's make_graph and make_model would copy 252 MB of constants twice.
    """

    def __init__(self, opset: int) -> None:
        self.model = onnx.ModelProto(ir_version=IR_VERSIONS[opset], opset_import=[helper.make_opsetid("", opset)])
        self.proto = self.model.graph
        self.proto.name = "yolov3"
        self.prefix = ""

    def add(self, op: str, inputs: Sequence[str], output: str = "", **attributes) -> str:
        """Append a node and return the name of its output."""
        output = output or f"{self.prefix}.{op.lower()}{len(self.proto.node)}"
        self.proto.node.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, values: np.ndarray, name: str) -> str:
        """Add an initializer, (...) of any shape and dtype, and return its name in the graph."""
        name = f"{self.prefix}.{name}"
        self.proto.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def integers(self, name: str, *values: int) -> str:
        return self.constant(np.array(values, np.int64), name)

    def floats(self, name: str, *values: float) -> str:
        return self.constant(np.array(values, np.float32), name)


def _convolution(graph: Graph, block: Convolution, last: str, arrays: Arrays) -> str:
    kernel, bias = folded(block, arrays)
    last = graph.add("Conv", [last, graph.constant(kernel, "kernel"), graph.constant(bias, "bias")],
                     kernel_shape=[block.size] * 2, strides=block.strides, pads=[block.padding] * 4, group=block.groups)
    return _activation(graph, block.activation, last)


def _activation(graph: Graph, name: str, last: str) -> str:
    if name == "mish":  # x * tanh(ln(1 + e^x)); an operator of its own only from opset 18 on
        return graph.add("Mul", [last, graph.add("Tanh", [graph.add("Softplus", [last])])])
    if name == "leaky":
        return graph.add("LeakyRelu", [last], alpha=LEAKY_SLOPE)
    return last if name == "linear" else graph.add({"logistic": "Sigmoid", "relu": "Relu"}[name], [last])


def folded(block: Convolution, arrays: Arrays) -> Tuple[np.ndarray, np.ndarray]:
    """(out, in / groups, size, size) kernel and (out,) bias, both float32, with the batch norm folded in in float64."""
    if not block.batch_normalize:
        return arrays["kernel"], arrays["bias"]
    scale = arrays["scale"].astype(np.float64) / np.sqrt(arrays["variance"].astype(np.float64) + block.eps)
    kernel = arrays["kernel"] * scale[:, None, None, None]
    return kernel.astype(np.float32), (arrays["bias"] - arrays["mean"] * scale).astype(np.float32)


def _maxpool(graph: Graph, block: MaxPool, last: str, outputs: List[str]) -> str:
    before = block.padding // 2
    after = block.padding - before
    last = graph.add("MaxPool", [last], kernel_shape=[block.size] * 2, strides=block.strides,
                     pads=[before, before, after, after])
    if not block.zero_padded:
        return last
    # MaxPool pads with what never wins; here a zero takes part wherever the window reaches over the border. The plain
    # spelling, Pad and then MaxPool, will not do: ONNX Runtime (PadFusion) and onnxsim merge the two into one MaxPool
    # that pads with what never wins, and the numbers change.
    _, height, width = block.shape
    border = np.zeros((1, 1, height, width), np.float32)
    border[:, :, before:max(height - after, 0), before:max(width - after, 0)] = LOWEST
    return graph.add("Max", [last, graph.constant(border, "border")])


def _upsample(graph: Graph, block: Upsample, last: str, outputs: List[str]) -> str:
    # Opset 11 has no way to leave `roi` out that every reader takes; empty, it says the same.
    inputs = [last, graph.floats("roi"), graph.floats("scales", 1, 1, block.stride, block.stride)]
    return graph.add("Resize", inputs, mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric")


def _shortcut(graph: Graph, block: Shortcut, last: str, outputs: List[str]) -> str:
    return graph.add("Add", [last, outputs[block.source]])


def _route(graph: Graph, block: Route, last: str, outputs: List[str]) -> str:
    sources = [outputs[source] for source in block.sources]
    for number, part in enumerate(block.parts):
        first, end = (graph.integers(f"{name}{number}", value) for name, value in zip(("first", "end"), part))
        sources[number] = graph.add("Slice", [sources[number], first, end, graph.integers(f"axis{number}", 1)])
    return graph.add("Concat", sources, axis=1) if len(sources) > 1 else sources[0]


SIMPLE: Dict[type, Callable[[Graph, Any, str, List[str]], str]] = {
    MaxPool: _maxpool, Upsample: _upsample, Shortcut: _shortcut, Route: _route}


def _person_first(graph: Graph, block: Yolo, last: str) -> str:
    """(B, anchors, attributes, h * w) with the class of people before the other classes."""
    classes = [block.person, *(number for number in range(block.classes) if number != block.person)]
    order = [*range(BOX_ATTRIBUTES), *(BOX_ATTRIBUTES + number for number in classes)]
    return graph.add("Gather", [last, graph.integers("person_first", *order)], axis=2)


def _people_rows(graph: Graph, block: Yolo, last: str) -> str:
    """(B, anchors * attributes, h, w) -> (B, h * w * anchors, columns). A 0 in a Reshape keeps the batch."""
    anchors, (_, height, width) = len(block.anchors), block.shape
    attributes, person = BOX_ATTRIBUTES + block.classes, BOX_ATTRIBUTES + 1
    last = graph.add("Reshape", [last, graph.integers("split", 0, anchors, attributes, height * width)])
    if block.classes > 1:
        axis, start, middle, end = (graph.integers(f"at{value}", value) for value in (2, 0, person, attributes))
        if block.person:
            last = _person_first(graph, block, last)
        box_and_person = graph.add("Slice", [last, start, middle, axis])
        others = graph.add("Slice", [last, middle, end, axis])
        best_other = graph.add("ReduceMax", [others], axes=[2], keepdims=1)
        last = graph.add("Concat", [box_and_person, best_other], axis=2)
        attributes = person + 1
    last = graph.add("Transpose", [last], perm=[0, 3, 1, 2])  # (B, h * w, anchors, columns)
    return graph.add("Reshape", [last, graph.integers("rows", 0, height * width * anchors, attributes)])
