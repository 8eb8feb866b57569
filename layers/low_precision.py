"""A network as a device with fewer bits computes it, as an ONNX graph in float32 that any runtime can run."""
from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from contract.ranges import bounds
from layers.graphs import copy_of, find_layers, inputs_of
from quantization.calibrate import calibrate
from quantization.decision import Decision
from quantization.graph import prepare
from quantization.qdq import to_qdq

MOST = float(np.finfo(np.float16).max)  # 65504; devices that saturate stop there
LOWEST, HIGHEST = "float16/lowest", "float16/highest"  # tensors that hold -MOST and MOST
METHOD = "minmax"  # of int8's ranges: nothing is cut off, so that all that is lost is lost by rounding


def emulate_float16(model: ModelProto, floats: List[str]) -> ModelProto:
    """Weights, and everything that a layer reads or gives, rounded to float16; inside a layer the sums are float32.

    So do matrix units that multiply float16 and accumulate float32. Beyond 65504 values saturate there, as on Ascend
    310 and 310P; rounding is to nearest, ties to even, with float16's denormal numbers. Not emulated: a vector unit's
    own float16 arithmetic inside one layer (a long sum of an average pooling, an exponential), and the layers that a
    compiler fuses, between which nothing is rounded. `floats`: tensors that hold floating-point values.
    """
    low = copy_of(model)
    given = {layer.tensor for layer in find_layers(model)}.intersection(floats)
    read = given | set(inputs_of(model)).intersection(floats)
    low.graph.initializer.extend(numpy_helper.from_array(np.array(value, np.float32), name)
                                 for name, value in ((LOWEST, -MOST), (HIGHEST, MOST)))
    for weight in low.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            weight.CopyFrom(_rounded(weight))
    nodes: List[NodeProto] = [node for name in inputs_of(low) if name in read
                              for node in _rounding(name, f"{name}/read")]
    for node in low.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_rounded(attribute.t))
        results = given.intersection(node.output)
        node.input[:] = [f"{name}/read" if name in read else name for name in node.input]
        node.output[:] = [f"{name}/sum" if name in results else name for name in node.output]
        nodes.append(node)
        for name in sorted(results):
            nodes += [*_rounding(f"{name}/sum", name), *_rounding(name, f"{name}/read")]
    del low.graph.node[:]
    low.graph.node.extend(nodes)
    return low


def _rounded(weight: TensorProto) -> TensorProto:
    values = np.clip(numpy_helper.to_array(weight), -MOST, MOST)
    return numpy_helper.from_array(values.astype(np.float16).astype(np.float32), weight.name)


def _rounding(source: str, target: str) -> List[NodeProto]:
    steps: List[Tuple[str, List[str], Dict[str, Any]]] = [
        ("Max", [source, LOWEST], {}), ("Min", [f"{target}/above", HIGHEST], {}),
        ("Cast", [f"{target}/within"], {"to": TensorProto.FLOAT16}),
        ("Cast", [f"{target}/half"], {"to": TensorProto.FLOAT})]
    results = [f"{target}/above", f"{target}/within", f"{target}/half", target]
    return [helper.make_node(op_type, reads, [result], **options)
            for (op_type, reads, options), result in zip(steps, results)]


def quantize_int8(model: ModelProto, crops: np.ndarray, batch: int, path: str) -> ModelProto:
    """quantize.py's pairs for TensorRT, the ranges being the largest values of (N, ...) crops.

    Weights per channel, activations per tensor, all symmetric with zero point 0. Only what these operators read is
    quantised, and not their biases: what follows them can then be fused, and a layer left out of the quantisation takes
    all its pairs with it. Between the pairs the arithmetic is that of floats.
    """
    prepared = prepare(model, path)
    ranges = calibrate(prepared, (crops[start:start + batch] for start in range(0, len(crops), batch)), path)
    decision = Decision({name: bounds(one, METHOD) for name, one in ranges.items()}, {}, METHOD)
    return to_qdq(prepared, decision, "tensorrt")
