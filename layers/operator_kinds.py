"""What devices and converters are known to compute otherwise in one layer, as changed copies of that layer.

A kind is a change of an attribute, of the layer's nodes, or of its result. Whether it is what happened is not decided
here but by a run: `layers.operator_fault`.
"""
from __future__ import annotations

import itertools
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Tuple

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from contract.onnx_file import opset_of
from layers.graphs import FUSED, FUSING, copy_of
from layers.single_layer import SingleLayer

Changed = Tuple[str, ModelProto]  # what was changed, in words, and the layer so changed
MOST_PADDING = 3  # a side
EPSILONS = (1e-5, 1e-3, 1e-4, 1e-6, 1e-12, 0.0, 1e-2)
LARGEST_HALF = 65504.0  # of float16
VALUES_PER_CHANNEL = 50  # on average; fewer would let a scale and an offset for each channel explain anything


def choices(**values: Iterable[Any]) -> Callable[[NodeProto], Iterator[Dict[str, Any]]]:
    """All combinations of the values of some attributes."""
    return lambda node: (dict(zip(values, chosen)) for chosen in itertools.product(*values.values()))


def paddings(**values: Iterable[Any]) -> Callable[[NodeProto], Iterator[Dict[str, Any]]]:
    """Paddings of two axes, as many cells before and behind both, with all values of other attributes."""
    sides = range(MOST_PADDING + 1)
    pads = [[begin, begin, end, end] for begin in sides for end in sides]
    return choices(auto_pad=("NOTSET",), pads=pads, **values)


def resizes(node: NodeProto) -> Iterator[Dict[str, Any]]:
    places = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_crop_and_resize")
    nearest = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    for place in places:
        yield from ({"mode": "nearest", "coordinate_transformation_mode": place, "nearest_mode": rounding}
                    for rounding in nearest)
        yield {"mode": "linear", "coordinate_transformation_mode": place}
        yield from ({"mode": "cubic", "coordinate_transformation_mode": place, "cubic_coeff_a": coefficient}
                    for coefficient in (-0.75, -0.5))


ATTRIBUTES: Dict[str, Callable[[NodeProto], Iterable[Dict[str, Any]]]] = {
    "DepthToSpace": choices(mode=("DCR", "CRD")),
    "Conv": paddings(),
    "ConvTranspose": paddings(output_padding=([0, 0], [1, 1])),
    "MaxPool": paddings(ceil_mode=(0, 1)),
    "AveragePool": paddings(ceil_mode=(0, 1), count_include_pad=(0, 1)),
    "Resize": resizes,
    "BatchNormalization": choices(epsilon=EPSILONS),
    "Softmax": choices(axis=(1, 2, 3)),
    "LeakyRelu": choices(alpha=(0.01, 0.1, 0.2, 0.3)),
    "HardSigmoid": choices(alpha=(0.2, 1 / 6), beta=(0.5,)),
    "Gemm": choices(transB=(0, 1)),
}


def changed_layers(model: ModelProto) -> Iterator[Changed]:
    """Every kind that applies to a layer, those of fewer changes first."""
    found = [(len(text.split(", ")), text, changed) for place in range(len(model.graph.node))
             for text, changed in (*changed_attributes(model, place), *changed_nodes(model, place))]
    yield from ((text, changed) for _, text, changed in sorted(found, key=lambda one: one[0]))


def changed_attributes(model: ModelProto, place: int) -> Iterator[Changed]:
    node = model.graph.node[place]
    if node.op_type not in ATTRIBUTES or node.domain not in ("", "ai.onnx"):
        return
    for attributes in ATTRIBUTES[node.op_type](node):
        present = {name: attribute_of(model, node, name) for name in attributes}
        other = {name: value for name, value in attributes.items() if not _same(value, present[name])}
        if other:
            text = ", ".join(f"{name}={_short(value)} in place of {_short(present[name])}"
                             for name, value in other.items())
            yield f"{node.op_type} with {text}", with_attributes(model, place, attributes)


def attribute_of(model: ModelProto, node: NodeProto, name: str) -> Any:
    """As the node says, or ONNX's default; None where there is neither."""
    given = next((one for one in node.attribute if one.name == name), None)
    if given is None:
        known = onnx.defs.get_schema(node.op_type, opset_of(model)).attributes.get(name)
        given = known.default_value if known is not None and known.default_value.name else None
    value = helper.get_attribute_value(given) if given is not None else None
    return value.decode() if isinstance(value, bytes) else value


def _same(value: Any, present: Any) -> bool:
    if present is None:  # ONNX's meaning of absent pads
        return isinstance(value, list) and not any(value) or value == "NOTSET"
    return bool(np.isclose(value, present, rtol=1e-5, atol=0)) if isinstance(value, float) else value == present


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str([0] * 4 if value is None else value)


def with_attributes(model: ModelProto, place: int, attributes: Dict[str, Any]) -> ModelProto:
    changed = copy_of(model)
    node = changed.graph.node[place]
    kept = [one for one in node.attribute if one.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(*one) for one in attributes.items())])
    return changed


def changed_nodes(model: ModelProto, place: int) -> Iterator[Changed]:
    """Nodes and weights left out, put in, exchanged or turned."""
    node, last = model.graph.node[place], place == len(model.graph.node) - 1
    kind, values = node.op_type, {value.name for value in model.graph.input}
    if kind in FUSED and place:
        yield f"without {kind}", without_node(model, place, node.input[0])
    if last and kind in FUSING | {"BatchNormalization"}:
        yield "with a Relu behind it", with_relu(model)
    if kind in ("Conv", "ConvTranspose"):
        yield f"{kind} with its kernels turned by 180 degrees", with_weight(
            model, node.input[1], lambda weight: weight[:, :, ::-1, ::-1])
    if kind in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2:
        yield f"{kind} without its bias", with_weight(model, node.input[2], np.zeros_like)
    if kind in ("Add", "Mul") and values.issuperset(node.input):
        for left, kept in (node.input, node.input[::-1]):
            yield f"{kind} without its input {left}", without_node(model, place, kept)
    if kind in ("Concat", "Sub", "Div"):
        yield f"{kind} with its inputs in reverse order", with_inputs_reversed(model, place)
    if kind == "BatchNormalization":
        yield from changed_normalisation(model, place)


def changed_normalisation(model: ModelProto, place: int) -> Iterator[Changed]:
    """BatchNormalization folded or computed wrongly: y = (x - mean) scale / sqrt(variance + epsilon) + offset."""
    node = model.graph.node[place]
    _, scale, offset, mean, variance = node.input
    yield "BatchNormalization without its mean", with_weight(model, mean, np.zeros_like)
    yield "BatchNormalization without its offset", with_weight(model, offset, np.zeros_like)
    yield "BatchNormalization without its scale", with_weight(model, scale, np.ones_like)
    yield "BatchNormalization divided by the variance and not by its root", with_weight(model, variance, np.square)
    yield "BatchNormalization without its variance", with_weight(model, variance, np.ones_like)
    before = model.graph.node[place - 1] if place else node
    if before.op_type in ("Conv", "ConvTranspose") and len(before.input) > 2:
        of = {name: weight_of(model, name) for name in (before.input[2], scale, variance)}
        bias, root = of[before.input[2]], np.sqrt(of[variance] + attribute_of(model, node, "epsilon"))
        kept = bias - bias * of[scale] / root
        yield (f"BatchNormalization folded into the kernels and not into the bias of {before.op_type}",
               with_weight(model, offset, lambda values: values + kept))


def weight_of(model: ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == name))


def with_weight(model: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> ModelProto:
    """A copy with one weight changed; without change where `name` is no weight but a value."""
    changed = copy_of(model)
    for weight in changed.graph.initializer:
        if weight.name == name:
            values = numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(values), values.dtype), name))
    return changed


def with_inputs_reversed(model: ModelProto, place: int) -> ModelProto:
    changed = copy_of(model)
    changed.graph.node[place].input[:] = changed.graph.node[place].input[::-1]
    return changed


def without_node(model: ModelProto, place: int, kept: str) -> ModelProto:
    """A copy in which `kept`, one of its inputs, stands for the result of a node."""
    changed = copy_of(model)
    changed.graph.node[place].CopyFrom(helper.make_node("Identity", [kept], [model.graph.node[place].output[0]]))
    return changed


def with_relu(model: ModelProto) -> ModelProto:
    changed = copy_of(model)
    output = changed.graph.output[0].name
    changed.graph.node[-1].output[0] = f"{output}/before"
    changed.graph.node.append(helper.make_node("Relu", [f"{output}/before"], [output]))
    return changed


def changed_results(layer: SingleLayer, expected: np.ndarray, got: np.ndarray) -> Iterator[Tuple[str, np.ndarray]]:
    """What may have happened to the result (people, ...): of `expected`, changed so, with the words for it."""
    if np.isinf(got).any():
        over = np.abs(expected) > LARGEST_HALF
        yield ("values beyond float16's 65504 became infinite",
               np.where(over, np.copysign(np.inf, expected), expected))
        return
    low, high = float(got.min()), float(got.max())
    ends = [f"{end:.6g}" for end, beyond in ((low, expected.min() < low), (high, expected.max() > high))
            if beyond and np.count_nonzero(got == end) > 1]
    if ends:
        yield f"values saturate at {' and '.join(ends)}", np.clip(expected, low, high)
    factor = float((expected * got).sum() / max((expected * expected).sum(), 1e-30))
    yield f"all values are multiplied by {factor:.6g}", expected * np.float32(factor)
    by_channel = fit_channels(layer, expected, got)
    if by_channel is not None:
        yield ("each channel has a scale and an offset of its own, as of a BatchNormalization that was folded with "
               "other numbers", by_channel)


def fit_channels(layer: SingleLayer, expected: np.ndarray, got: np.ndarray) -> Optional[np.ndarray]:
    """`expected` with the scale and offset for each channel that bring it nearest to `got`, before its Relu where the
    layer has one; None where there is too little to fit."""
    last = layer.model.graph.node[-1]
    rectified = last.op_type == "Relu" and len(layer.model.graph.node) > 1
    before = layer.run(without_node(layer.model, len(layer.model.graph.node) - 1, last.input[0])) if rectified \
        else expected
    used = got > (0 if rectified else -np.inf)
    if before is None or before.ndim != 4 or np.count_nonzero(used) < VALUES_PER_CHANNEL * before.shape[1]:
        return None
    fitted = expected.copy()
    for channel in range(before.shape[1]):
        x, y, chosen = (values[:, channel] for values in (before.astype(np.float64), got, used))
        if np.count_nonzero(chosen) > 2 and np.ptp(x[chosen]):
            scale, offset = np.polyfit(x[chosen], y[chosen], 1)
            fitted[:, channel] = np.maximum(scale * x + offset, 0 if rectified else -np.inf)
    return fitted
