"""Turn an int8 ONNX file with QuantizeLinear and DequantizeLinear pairs into the form that atc takes.

    python3 -m ascend.quantize models/fast_res50_256x192_bs16_int8.onnx models/fast_res50_256x192_bs16_deploy.onnx

AscendQuant makes int8 of what a convolution reads, the convolution adds products of int8 to an int32 bias, and
AscendDequant makes float of the sums: the form that Huawei's AMCT and msModelSlim write. Everything but convolutions
computes in float, without pairs. Needs the package onnx, not CANN.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from contract.arguments import HelpFormatter, parse
from contract.errors import UserError
from contract.files import make_folder, write_file
from contract.locks import hold, reading
from contract.onnx_file import load_onnx

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

QUANT_BITS = 8
PAIRS = ("QuantizeLinear", "DequantizeLinear")


class Activation(NamedTuple):
    """A float tensor that is int8 as round(x / scale) + offset, from -128 to 127."""

    tensor: str
    scale: np.float32
    offset: int


class Weights(NamedTuple):
    """int8 `values` of which each output channel has a scale, (C,) float32."""

    values: np.ndarray
    scales: np.ndarray


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m ascend.quantize", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("model", help=".onnx with QuantizeLinear and DequantizeLinear, as quantize.py writes it")
    parser.add_argument("output", help=".onnx to write, which python3 -m ascend.atc takes")
    return parse(parser, argv)


def to_deploy(model: ModelProto, path: object) -> Tuple[ModelProto, int]:
    """The model in Huawei's form, and how many convolutions are int8 in it. `path` names the model in errors.

    Raises UserError if no convolution is int8, and for weights or pairs that the form cannot express.
    """
    writer = _Writer(model, path)
    return writer.write(), writer.count


class _Writer:
    def __init__(self, model: ModelProto, path: object):
        import onnx

        self.onnx, self.path, self.count = onnx, path, 0
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = self.model.graph
        self.values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.made: Dict[Activation, str] = {}  # -> what AscendQuant gives
        self.renamed: Dict[str, str] = {}  # what a pair gives -> the float tensor that it is of
        self.nodes: List[NodeProto] = []

    def write(self) -> ModelProto:
        graph = self.model.graph
        for node in list(graph.node):
            weights = self._weights(node) if node.op_type == "Conv" else None
            activation = self._activation(node.input[0]) if weights else None
            if node.op_type in PAIRS:
                self._leave_out(node)
            elif weights and activation:
                self._convolve(node, activation, weights)
            else:
                node.input[:] = [self.renamed.get(name, name) for name in node.input]
                self.nodes.append(node)
        if not self.count:
            raise UserError(f"{self.path}: holds no convolution with QuantizeLinear and DequantizeLinear before its "
                            "input and its weights. Give the file that quantize.py writes")
        for value in graph.output:  # behind a pair: nothing but its name is needed
            if value.name in self.renamed:
                self._add("Identity", [self.renamed[value.name]], value.name)
        self._finish()
        return self.model

    def _finish(self) -> None:
        """The nodes, and the weights that they read, in place of those of the file."""
        graph = self.model.graph
        read = {name for node in self.nodes for name in node.input}
        weights = [self.onnx.numpy_helper.from_array(values, name) for name, values in self.values.items()
                   if name in read]
        for kept, new in ((graph.node, self.nodes), (graph.initializer, weights)):
            del kept[:]
            kept.extend(new)
        del graph.value_info[:]  # of tensors that are gone

    def _pair(self, name: str) -> Optional[Tuple[str, np.ndarray, np.ndarray, bool]]:
        """What DequantizeLinear gives as `name`: the tensor that it is of, scales, zero points, and whether that tensor
        is int8 already."""
        dequantize = self.makers.get(name)
        if dequantize is None or dequantize.op_type != PAIRS[1]:
            return None
        quantize = self.makers.get(dequantize.input[0])
        scale, zero = (self.values.get(one) for one in dequantize.input[1:3])
        if scale is None or zero is None:
            raise UserError(f"{self.path}: {dequantize.name or name} has a scale that is not constant, or no zero "
                            "point. Give the file that quantize.py writes")
        if dequantize.input[0] in self.values:
            return dequantize.input[0], scale, zero, True
        if quantize is None or quantize.op_type != PAIRS[0]:
            return None
        if list(quantize.input[1:]) != list(dequantize.input[1:]):
            raise UserError(f"{self.path}: {dequantize.name or name} has another scale than the QuantizeLinear before "
                            "it. Ascend's form cannot express that")
        return quantize.input[0], scale, zero, False

    def _activation(self, name: str) -> Optional[Activation]:
        pair = self._pair(name)
        if pair is None or pair[3] or pair[1].size != 1:
            return None
        tensor, scale, zero, _ = pair
        lowest = np.iinfo(zero.dtype).min - np.iinfo(np.int8).min  # of bytes 0 to 255 too, the same steps
        return Activation(self.renamed.get(tensor, tensor), np.float32(scale.item()), int(zero.item()) - lowest)

    def _weights(self, node: NodeProto) -> Optional[Weights]:
        pair = self._pair(node.input[1])
        if pair is None or pair[0] not in self.values:
            return None
        name, scale, zero, done = pair
        if zero.any():
            raise UserError(f"{self.path}: the weights of {node.name or node.output[0]} have a zero point other than "
                            "0. Ascend's int8 weights are symmetric")
        values = self.values[name]
        scales = np.broadcast_to(scale.astype(np.float32).ravel(), len(values))
        if not done:
            steps = values.astype(np.float32) / scales.reshape(-1, *[1] * (values.ndim - 1))
            values = np.clip(np.rint(steps), -128, 127).astype(np.int8)
        return Weights(values, scales)

    def _convolve(self, node: NodeProto, activation: Activation, weights: Weights) -> None:
        """AscendDequant's factors are float32 in the low half of uint64, and the bias is in units of them."""
        factors = activation.scale * weights.scales
        name, output = node.name or node.output[0], node.output[0]
        inputs = [self._quantize(activation), self._constant(f"{name}/weights_int8", weights.values)]
        if len(node.input) > 2 and node.input[2]:
            inputs.append(self._constant(f"{name}/bias_int32", self._bias(node, factors)))
        convolution = self.onnx.NodeProto()
        convolution.CopyFrom(node)
        convolution.input[:], convolution.output[:] = inputs, [f"{output}/int32"]
        self.nodes.append(convolution)
        packed = self._constant(f"{name}/dequant_scale", factors.view(np.uint32).astype(np.uint64))
        self._add("AscendDequant", [f"{output}/int32", packed], output)
        self.count += 1

    def _bias(self, node: NodeProto, factors: np.ndarray) -> np.ndarray:
        pair = self._pair(node.input[2])
        if pair is not None and pair[0] in self.values and pair[3]:
            return self.values[pair[0]].astype(np.int32)  # in the same units
        name = node.input[2] if pair is None else pair[0]
        if name not in self.values:
            raise UserError(f"{self.path}: the bias of {node.name or node.output[0]} is not constant")
        steps = np.rint(self.values[name].astype(np.float32) / factors).astype(np.float64)
        return np.clip(steps, -2.0**31, 2.0**31 - 1).astype(np.int32)

    def _quantize(self, activation: Activation) -> str:
        """What AscendQuant gives; once for all who read it."""
        if activation not in self.made:
            output = self.made[activation] = f"{activation.tensor}/int8/{len(self.made)}"
            self._add("AscendQuant", [activation.tensor], output, scale=float(1 / activation.scale),
                      offset=activation.offset, quant_bit=QUANT_BITS)
        return self.made[activation]

    def _leave_out(self, node: NodeProto) -> None:
        """Who reads a pair without being int8 reads the float tensor; of int8 weights, their float values."""
        if node.op_type == PAIRS[0]:
            return
        name = node.output[0]
        pair = self._pair(name)
        if pair is None:
            raise UserError(f"{self.path}: {node.name or name} is not part of a pair")
        tensor, scale, zero, done = pair
        if done:
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            shape = [-1 if place == axis and scale.size > 1 else 1 for place in range(self.values[tensor].ndim)]
            steps = self.values[tensor].astype(np.float32) - zero.astype(np.float32).reshape(shape)
            self.values[name] = steps * scale.astype(np.float32).reshape(shape)
        else:
            self.renamed[name] = self.renamed.get(tensor, tensor)

    def _constant(self, name: str, values: np.ndarray) -> str:
        self.values[name] = values
        return name

    def _add(self, op_type: str, inputs: List[str], output: str, **settings: object) -> None:
        node = self.onnx.helper.make_node(op_type, inputs, [output], name=f"{output}/{op_type}")
        node.attribute.extend(map(self.onnx.helper.make_attribute, settings, settings.values()))
        self.nodes.append(node)


def main() -> None:
    args = parse_args()
    output = Path(args.output)
    with reading(args.model):
        deployed, count = to_deploy(load_onnx(args.model), args.model)
    make_folder(output.parent)
    with hold(output):
        write_file(output, deployed.SerializeToString())
    print(f"{output}: {count} convolutions in int8")


if __name__ == "__main__":
    sys.exit(exit_code(main))
