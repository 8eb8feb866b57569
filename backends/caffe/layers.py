"""ONNX nodes to Caffe layers: plain BVLC layers only, so that OpenCV, atc and any strict parser read them.

What Caffe lacks is said with what it has: a pixel shuffle and a nearest upsampling are deconvolutions with weights of 0
and 1, and where its pools, which round up, give a row or column too many, a convolution with a single 1 drops it. Both
are exact in float32 and in float16.
"""
from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from contract.errors import UserError

Shape = Tuple[int, ...]
POOLS = {"MaxPool": 0, "AveragePool": 1}  # the numbers of Caffe's PoolMethod


class LayerWriter:
    """The layers of a net as they are added. Every layer has one top, under its own name.

    `shapes`, `weights` and `readers` say the shape of every ONNX tensor, the value of every constant, and how many
    nodes read a tensor. `alias` maps the result of a node that needs no layer to the top that holds it.
    """

    def __init__(self, new_layer: Callable[[], Any], shapes: Dict[str, Shape], weights: Dict[str, np.ndarray],
                 readers: Dict[str, int]):
        self.new_layer, self.shapes, self.weights, self.readers = new_layer, shapes, weights, readers
        self.layers: List[Any] = []
        self.alias: Dict[str, str] = {}
        self.top_shapes: Dict[str, Shape] = {}

    def top(self, tensor: str) -> str:
        return self.alias.get(tensor, tensor)

    def shape(self, tensor: str) -> Shape:
        """Of the top that holds a tensor; Caffe's may have lost axes of size 1."""
        top = self.top(tensor)
        return self.top_shapes[top] if top in self.top_shapes else self.shapes[tensor]

    def add(self, kind: str, name: str, bottoms: Sequence[str], blobs: Sequence[np.ndarray] = (),
            shape: Optional[Shape] = None) -> Any:
        """A layer whose top, `name`, has `shape`, or that of the ONNX tensor of this name."""
        layer = self.new_layer()
        layer.name, layer.type = name, kind
        layer.bottom.extend(self.top(bottom) for bottom in bottoms)
        layer.top.append(name)
        self.set_blobs(layer, blobs)
        self.layers.append(layer)
        self.top_shapes[name] = shape or self.shapes[name]
        return layer

    def set_blobs(self, layer: Any, blobs: Sequence[np.ndarray]) -> None:
        del layer.blobs[:]
        for values in blobs:
            blob = layer.blobs.add()
            blob.shape.dim.extend(values.shape)
            blob.data.extend(np.ascontiguousarray(values, np.float32).ravel().tolist())

    def rename(self, old: str, new: str) -> None:
        """The layer `old`, and its top wherever it is read."""
        for layer in self.layers:
            layer.name = new if layer.name == old else layer.name
            for names in (layer.bottom, layer.top):
                names[:] = [new if name == old else name for name in names]

    def constant(self, node: Any, place: int) -> Optional[np.ndarray]:
        return self.weights.get(node.input[place]) if place < len(node.input) else None

    def needed(self, node: Any, place: int) -> np.ndarray:
        value = self.constant(node, place)
        if value is None:
            raise refusal(node, f"its input {place} is computed, expected a constant")
        return value


def refusal(node: Any, why: str) -> UserError:
    return UserError(f"{node.op_type} {node.output[0]}: {why}. Caffe has no such layer. Use ONNX Runtime")


def attributes(node: Any) -> Dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def spatial(node: Any, key: str, default: Sequence[int]) -> List[int]:
    return list(attributes(node).get(key, default))


def set_window(param: Any, node: Any, kernel: Sequence[int]) -> None:
    """Kernel, stride, pad and dilation of a convolution, one number where height and width have the same."""
    stride, pads = spatial(node, "strides", (1, 1)), spatial(node, "pads", (0, 0, 0, 0))
    dilations = spatial(node, "dilations", (1, 1))
    if pads[:2] != pads[2:]:
        raise refusal(node, f"its pads {pads} differ between begin and end")
    if kernel[0] == kernel[1] and stride[0] == stride[1] and pads[0] == pads[1]:
        param.kernel_size.append(kernel[0])
        param.stride.append(stride[0])
        param.pad.append(pads[0])
    else:
        param.kernel_h, param.kernel_w = kernel
        param.stride_h, param.stride_w = stride
        param.pad_h, param.pad_w = pads[:2]
    if dilations != [1, 1]:
        param.dilation.extend(dilations)


def convolution(net: LayerWriter, node: Any) -> None:
    weights, bias = net.needed(node, 1), net.constant(node, 2)
    transposed = node.op_type == "ConvTranspose"
    if weights.ndim != 4 or any(spatial(node, "output_padding", (0, 0))):
        raise refusal(node, "expected a convolution over height and width, without output_padding")
    layer = net.add("Deconvolution" if transposed else "Convolution", node.output[0], node.input[:1],
                    [weights] if bias is None else [weights, bias])
    param, group = layer.convolution_param, attributes(node).get("group", 1)
    param.num_output = weights.shape[1] * group if transposed else len(weights)
    param.bias_term, param.group = bias is not None, group
    set_window(param, node, weights.shape[2:])


def fixed_convolution(net: LayerWriter, kind: str, name: str, bottom: str, weights: np.ndarray, outputs: int,
                      group: int, stride: int, shape: Shape) -> None:
    """A layer of weights that we choose: no bias, no padding."""
    layer = net.add(kind, name, [bottom], [weights], shape)
    param = layer.convolution_param
    param.num_output, param.bias_term, param.group = outputs, False, group
    param.stride.append(stride)
    if weights.shape[2] == weights.shape[3]:
        param.kernel_size.append(weights.shape[2])
    else:
        param.kernel_h, param.kernel_w = weights.shape[2:]


def pick_channels(net: LayerWriter, name: str, bottom: str, channels: Sequence[int]) -> None:
    """The channels in this order, by a 1x1 convolution of zeros and ones."""
    batch, count, *size = net.shape(bottom)
    weights = np.zeros((len(channels), count, 1, 1), np.float32)
    weights[np.arange(len(channels)), list(channels)] = 1
    fixed_convolution(net, "Convolution", name, bottom, weights, len(channels), 1, 1, (batch, len(channels), *size))


def depth_to_space(net: LayerWriter, node: Any) -> None:
    block, mode = attributes(node)["blocksize"], attributes(node).get("mode", b"DCR")
    source, channels = node.input[0], net.shapes[node.output[0]][1]
    if mode == b"DCR" and channels > 1:  # channel (i, j, c) becomes (c, i, j), CRD's order
        name = f"{node.output[0]}_order"
        order = np.arange(channels * block * block).reshape(-1, channels).T.ravel().tolist()
        pick_channels(net, name, source, order)
        source = name
    weights = np.tile(np.eye(block * block, dtype=np.float32), (channels, 1)).reshape(-1, 1, block, block)
    fixed_convolution(net, "Deconvolution", node.output[0], source, weights, channels, channels, block,
                      net.shapes[node.output[0]])


def resize(net: LayerWriter, node: Any) -> None:
    (_, channels, height, width), out = net.shape(node.input[0]), net.shapes[node.output[0]]
    factor = out[2] // height
    if attributes(node).get("mode", b"nearest") != b"nearest" or out[2:] != (height * factor, width * factor):
        raise refusal(node, f"expected nearest upsampling by a whole number, got {height}x{width} to "
                            f"{out[2]}x{out[3]}")
    fixed_convolution(net, "Deconvolution", node.output[0], node.input[0],
                      np.ones((channels, 1, factor, factor), np.float32), channels, channels, factor, out)


def pool(net: LayerWriter, node: Any) -> None:
    """MaxPool and AveragePool. A row or column that Caffe has too many is dropped: its first window begins where ONNX's
    does. A mean whose windows reach beyond the image is refused, because the two count the padding otherwise."""
    kernel, stride, pads = (spatial(node, key, default) for key, default in
                            (("kernel_shape", ()), ("strides", (1, 1)), ("pads", (0, 0, 0, 0))))
    if len({*kernel}) > 1 or len({*stride}) > 1 or len({*pads}) > 1:
        raise refusal(node, f"kernel {kernel}, strides {stride}, pads {pads}, expected one number each")
    batch, channels, *size = net.shape(node.input[0])
    out = net.shapes[node.output[0]]
    rounded_up = tuple(_pooled(length, kernel[0], stride[0], pads[0]) for length in size)
    extra = tuple(came - wanted for came, wanted in zip(rounded_up, out[2:]))
    if node.op_type == "AveragePool" and pads[0]:
        raise refusal(node, f"a mean with pads {pads}, expected none")
    name = node.output[0] if extra == (0, 0) else f"{node.output[0]}_rounded_up"
    layer = net.add("Pooling", name, node.input[:1], shape=(batch, channels, *rounded_up))
    param = layer.pooling_param
    param.pool, param.kernel_size, param.stride, param.pad = POOLS[node.op_type], kernel[0], stride[0], pads[0]
    if extra != (0, 0):
        first = np.zeros((channels, 1, 1 + extra[0], 1 + extra[1]), np.float32)
        first[:, :, 0, 0] = 1
        fixed_convolution(net, "Convolution", node.output[0], name, first, channels, channels, 1, out)


def _pooled(length: int, kernel: int, stride: int, pad: int) -> int:
    """Caffe's size of a pooled axis: rounded up, but no window begins behind the padded image."""
    count = math.ceil((length + 2 * pad - kernel) / stride) + 1
    return count - 1 if pad and (count - 1) * stride >= length + pad else count


def global_pool(net: LayerWriter, node: Any) -> None:
    if node.op_type == "ReduceMean":
        axes = attributes(node).get("axes") or (net.needed(node, 1).tolist() if len(node.input) > 1 else [])
        if sorted(axis % 4 for axis in axes) != [2, 3]:
            raise refusal(node, f"expected a mean over height and width, got axes {list(axes)}")
    layer = net.add("Pooling", node.output[0], node.input[:1], shape=(*net.shape(node.input[0])[:2], 1, 1))
    layer.pooling_param.pool, layer.pooling_param.global_pooling = 1, True


def flatten(net: LayerWriter, node: Any) -> None:
    """Flatten, Reshape, Squeeze and Unsqueeze: a change of axes of size 1 needs no layer but Flatten's."""
    came, wanted = net.shape(node.input[0]), net.shapes[node.output[0]]
    if [size for size in came[1:] if size > 1] != [size for size in wanted[1:] if size > 1] and len(wanted) != 2:
        raise refusal(node, f"reshapes {came} to {wanted}")
    if len(came) > 2 and len(wanted) == 2:
        net.add("Flatten", node.output[0], node.input[:1])
    else:
        net.alias[node.output[0]] = net.top(node.input[0])


def gemm(net: LayerWriter, node: Any) -> None:
    weights, bias, given = net.needed(node, 1), net.constant(node, 2), attributes(node)
    weights = weights if given.get("transB", 0) else weights.T
    if given.get("transA", 0) or given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1:
        raise refusal(node, "expected alpha 1, beta 1 and no transposed input")
    layer = net.add("InnerProduct", node.output[0], node.input[:1], [weights] if bias is None else [weights, bias])
    layer.inner_product_param.num_output, layer.inner_product_param.bias_term = len(weights), bias is not None


def scale_layer(net: LayerWriter, name: str, bottom: str, factor: np.ndarray, offset: np.ndarray) -> None:
    """Each channel times a factor plus an offset."""
    channels = net.shape(bottom)[1]
    layer = net.add("Scale", name, [bottom], [np.broadcast_to(values.ravel(), channels).astype(np.float32)
                                              for values in (factor, offset)], net.shape(bottom))
    layer.scale_param.bias_term = True


def batch_norm(net: LayerWriter, node: Any) -> None:
    gain, bias, mean, variance = (net.needed(node, place).astype(np.float64) for place in range(1, 5))
    factor = gain / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    if not _fold_into_deconvolution(net, node, factor, bias - mean * factor):
        scale_layer(net, node.output[0], node.input[0], factor, bias - mean * factor)


def _fold_into_deconvolution(net: LayerWriter, node: Any, factor: np.ndarray, offset: np.ndarray) -> bool:
    """Into the weights of the deconvolution before it, if nothing else reads that. onnxsim leaves such a batch norm
    alone, and OpenCV 4 computes a Scale behind a deconvolution of several groups wrongly."""
    layer = next((layer for layer in net.layers if layer.name == node.input[0]), None)
    if layer is None or layer.type != "Deconvolution" or net.readers[node.input[0]] > 1:
        return False
    param = layer.convolution_param
    kernel, *bias = (np.array(blob.data).reshape(blob.shape.dim) for blob in layer.blobs)
    grouped = kernel.reshape(param.group, -1, *kernel.shape[1:])
    scaled = grouped * factor.reshape(param.group, 1, -1, 1, 1)
    param.bias_term = True
    net.set_blobs(layer, [scaled.reshape(kernel.shape), offset + (bias[0] * factor if bias else 0)])
    net.alias[node.output[0]] = node.input[0]
    return True


def instance_norm(net: LayerWriter, node: Any) -> None:
    name = f"{node.output[0]}_mvn"
    layer = net.add("MVN", name, node.input[:1], shape=net.shape(node.input[0]))
    layer.mvn_param.normalize_variance, layer.mvn_param.across_channels = True, False
    layer.mvn_param.eps = attributes(node).get("epsilon", 1e-5)
    scale_layer(net, node.output[0], name, net.needed(node, 1), net.needed(node, 2))


def arithmetic(net: LayerWriter, node: Any) -> None:
    """Add, Sub, Mul and Div: of two tensors, of a tensor and one number per channel, of a tensor and its gate."""
    constants = [place for place in (0, 1) if net.constant(node, place) is not None]
    if constants:
        _with_constant(net, node, constants[0])
    elif net.shape(node.input[0]) == net.shape(node.input[1]) and node.op_type in ("Add", "Mul"):
        layer = net.add("Eltwise", node.output[0], node.input)
        layer.eltwise_param.operation = {"Mul": 0, "Add": 1}[node.op_type]
    elif node.op_type == "Mul":
        _gate(net, node)
    else:
        raise refusal(node, f"of shapes {net.shape(node.input[0])} and {net.shape(node.input[1])}")


def _with_constant(net: LayerWriter, node: Any, place: int) -> None:
    constant, bottom = net.needed(node, place).astype(np.float64), node.input[1 - place]
    channels = net.shape(bottom)[1]
    per_channel = constant.size == 1 or (constant.ndim >= len(net.shape(bottom)) - 1 and constant.size == channels
                                         and constant.shape[-(len(net.shape(bottom)) - 1)] == channels)
    if not per_channel or (place == 0 and node.op_type in ("Sub", "Div")):
        raise refusal(node, f"with a constant of shape {constant.shape}, expected one number per channel on the right")
    one, zero = np.ones(1), np.zeros(1)
    factor, offset = {"Add": (one, constant), "Sub": (one, -constant), "Mul": (constant, zero),
                      "Div": (1 / constant, zero)}[node.op_type]
    scale_layer(net, node.output[0], bottom, factor, offset)


def _gate(net: LayerWriter, node: Any) -> None:
    """Maps (N, C, H, W) times one number per map: Scale with two bottoms, the gates as (N, C)."""
    maps, gates = sorted(node.input[:2], key=lambda tensor: -math.prod(net.shape(tensor)))
    if net.shape(maps)[:2] != net.shape(gates)[:2] or math.prod(net.shape(gates)[2:]) != 1:
        raise refusal(node, f"of shapes {net.shape(maps)} and {net.shape(gates)}")
    if len(net.shape(gates)) > 2:
        name = f"{node.output[0]}_gates"
        net.add("Flatten", name, [gates], shape=net.shape(gates)[:2])
        gates = name
    net.add("Scale", node.output[0], [maps, gates]).scale_param.axis = 0


def clip(net: LayerWriter, node: Any) -> None:
    """ReLU6 as 6 - relu(6 - relu(x)): Caffe has no other way to cut at the top."""
    given = attributes(node)
    low, high = (float(given[key]) if key in given else float(net.needed(node, place))
                 for place, key in ((1, "min"), (2, "max")))
    if low != 0:
        raise refusal(node, f"from {low} to {high}, expected from 0")
    name, shape = node.output[0], net.shape(node.input[0])
    net.add("ReLU", f"{name}_low", node.input[:1], shape=shape)
    scale_layer(net, f"{name}_turned", f"{name}_low", -np.ones(1), np.full(1, high))
    net.add("ReLU", f"{name}_high", [f"{name}_turned"], shape=shape)
    scale_layer(net, name, f"{name}_high", -np.ones(1), np.full(1, high))


def cut_channels(net: LayerWriter, node: Any) -> None:
    """Slice and Split along the channels."""
    if node.op_type == "Split":
        sizes = [net.shapes[output][1] for output in node.output]
        first = np.cumsum([0, *sizes])
        for output, start, size in zip(node.output, first, sizes):
            pick_channels(net, output, node.input[0], range(start, start + size))
        return
    starts, ends, axes = (net.needed(node, place).tolist() for place in (1, 2, 3))
    steps = net.constant(node, 4)
    if axes != [1] or (steps is not None and steps.tolist() != [1]):
        raise refusal(node, "expected a slice of the channels")
    channels = range(net.shape(node.input[0])[1])[starts[0]:ends[0]]
    pick_channels(net, node.output[0], node.input[0], channels)


def concat(net: LayerWriter, node: Any) -> None:
    net.add("Concat", node.output[0], node.input).concat_param.axis = attributes(node)["axis"]


def activation(net: LayerWriter, node: Any) -> None:
    net.add({"Relu": "ReLU", "Sigmoid": "Sigmoid", "Tanh": "TanH"}[node.op_type], node.output[0], node.input[:1],
            shape=net.shape(node.input[0]))


def identity(net: LayerWriter, node: Any) -> None:
    net.alias[node.output[0]] = net.top(node.input[0])


WRITERS: Dict[str, Callable[[LayerWriter, Any], None]] = {
    "Add": arithmetic, "AveragePool": pool, "BatchNormalization": batch_norm, "Clip": clip, "Concat": concat,
    "Conv": convolution, "ConvTranspose": convolution, "DepthToSpace": depth_to_space, "Div": arithmetic,
    "Dropout": identity, "Flatten": flatten, "Gemm": gemm, "GlobalAveragePool": global_pool, "Identity": identity,
    "InstanceNormalization": instance_norm, "MaxPool": pool, "Mul": arithmetic, "ReduceMean": global_pool,
    "Relu": activation, "Reshape": flatten, "Resize": resize, "Sigmoid": activation, "Slice": cut_channels,
    "Split": cut_channels, "Squeeze": flatten, "Sub": arithmetic, "Tanh": activation, "Unsqueeze": flatten,
}
