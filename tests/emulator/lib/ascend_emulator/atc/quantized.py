"""Huawei's int8 operators as integer operators of ONNX, which ONNX Runtime has.

AscendQuant: clip(round(x * scale) + offset, -128, 127). A convolution of int8 adds products of (value - offset), zeros
of the padding being the offset, and an int32 bias. AscendDequant: times the float32 in the low half of each uint64.
"""
from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from .errors import AtcError

OPERATORS = {"AscendQuant", "AscendDequant"}
INTEGER_CONV = "ConvInteger"
FLOAT_MODES = ("force_fp32", "must_keep_origin_dtype", "origin")
MIDDLE = 128  # ConvInteger takes bytes from 0


def is_quantized(model: Any) -> bool:
    return any(node.op_type in OPERATORS for node in model.graph.node)


def check_options(model: Any, values: Dict[str, str]) -> None:
    """What AMCT's restrictions exclude for a model that `to_integers` gave."""
    if any(node.op_type == INTEGER_CONV for node in model.graph.node):
        for flag in ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims", "precision_mode", "precision_mode_v2"):
            if flag in values and (flag.startswith("dynamic") or values[flag] in FLOAT_MODES):
                raise AtcError("E10001", value=values[flag], flag=flag, reason="the model is quantized")


def to_integers(model: Any) -> Any:
    """The model with operators of ONNX alone. Raises AtcError for what the chip has no form for."""
    return _Rewriter(model).rewrite()


class _Rewriter:
    def __init__(self, model: Any):
        import onnx
        self.onnx, self.model = onnx, model
        self.values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.offsets: Dict[str, int] = {}  # int8 tensor -> its offset
        self.nodes: List[Any] = []

    def rewrite(self) -> Any:
        for node in self.model.graph.node:
            rewrite = {"AscendQuant": self._quant, "AscendDequant": self._dequant}.get(node.op_type)
            if node.op_type == "Conv" and node.input[0] in self.offsets:
                rewrite = self._conv
            if rewrite is None and self.offsets.keys() & set(node.input):
                raise AtcError("E40021", value=node.name, reason=f"{node.op_type} has no int8 form")
            (rewrite or self.nodes.append)(node)
        graph, read = self.model.graph, {name for node in self.nodes for name in node.input}
        weights = [tensor for tensor in graph.initializer if tensor.name in read]
        for kept, new in ((graph.node, self.nodes), (graph.initializer, weights)):
            del kept[:]
            kept.extend(new)
        return self.model

    def _quant(self, node: Any) -> None:
        settings = {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}
        if not settings.keys() >= {"scale", "offset"} or settings.get("quant_bit", 8) != 8 or \
                not -128 <= settings["offset"] <= 127:
            raise AtcError("E40021", value=node.name, reason=f"AscendQuant with {settings}")
        output = node.output[0]
        self.offsets[output] = int(settings["offset"])
        scaled = self._node("Mul", [node.input[0], self._constant(f"{output}/scale", np.float32(settings["scale"]))])
        shift = self._constant(f"{output}/offset", np.float32(settings["offset"] + MIDDLE))
        shifted = self._node("Add", [self._node("Round", [scaled]), shift])
        limits = [self._constant(f"{output}/{limit}", np.float32(limit)) for limit in (0, 255)]
        self._node("Cast", [self._node("Clip", [shifted, *limits])], output, to=self.onnx.TensorProto.UINT8)

    def _conv(self, node: Any) -> None:
        weights = self.values.get(node.input[1])
        bias = self.values.get(node.input[2]) if len(node.input) > 2 else None
        if weights is None or weights.dtype != np.int8 or bias is not None and bias.dtype != np.int32:
            raise AtcError("E40021", value=node.name, reason="an int8 Conv needs int8 weights and an int32 bias")
        output = node.output[0]
        zero = self._constant(f"{output}/zero", np.uint8(self.offsets[node.input[0]] + MIDDLE))
        settings = {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}
        sums = self._node(INTEGER_CONV, [node.input[0], node.input[1], zero],
                          output if bias is None else "", **settings)
        if bias is not None:
            self._node("Add", [sums, self._constant(f"{output}/bias", bias.reshape(1, -1, 1, 1))], output)

    def _dequant(self, node: Any) -> None:
        packed = self.values.get(node.input[1])
        if packed is None or packed.dtype != np.uint64:
            raise AtcError("E40021", value=node.name, reason="AscendDequant needs a constant of uint64")
        factors = (packed & 0xffffffff).astype(np.uint32).view(np.float32).reshape(1, -1, 1, 1)
        floats = self._node("Cast", [node.input[0]], to=self.onnx.TensorProto.FLOAT)
        self._node("Mul", [floats, self._constant(f"{node.output[0]}/factors", factors)], node.output[0])

    def _constant(self, name: str, values: np.ndarray) -> str:
        self.model.graph.initializer.append(self.onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(self, op_type: str, inputs: List[str], output: str = "", **settings: Any) -> str:
        output = output or f"integers/{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op_type, inputs, [output], **settings))
        return output
