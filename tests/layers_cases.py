"""Small networks, and faults planted in them, for the tests of compare_layers.py."""
from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import pytest

from comparison.gates import choose_limits

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CHANNELS = 6
LAYERS = ["stem", "left", "left2", "right", "add", "deep", "out"]  # names of nodes that are first in their layer
TENSORS = ["s", "l", "l2", "r", "a", "d", "heatmaps"]  # and their results


def small_graph(opset: int = 13, batch: object = "batch", seed: int = 0,
                channels: int = CHANNELS) -> onnx.ModelProto:
    """(N, 3, 64, 48) -> (N, 17, 16, 12): convolutions with Relu, a residual block of two branches, heatmaps."""
    rng = np.random.default_rng(seed)
    helper = onnx.helper
    nodes: List[onnx.NodeProto] = []
    weights: List[onnx.TensorProto] = []

    def conv(name: str, source: str, target: str, channels: int, of: int, size: int, stride: int) -> None:
        values = rng.standard_normal((of, channels, size, size)) / np.sqrt(channels * size * size / 2)
        for part, array in (("w", values), ("b", rng.standard_normal(of) / 10)):
            weights.append(onnx.numpy_helper.from_array(array.astype(np.float32), f"{name}.{part}"))
        nodes.append(helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [target], name=name,
                                      kernel_shape=[size] * 2, strides=[stride] * 2, pads=[(size - 1) // 2] * 4))

    def relu(name: str, source: str, target: str) -> None:
        nodes.append(helper.make_node("Relu", [source], [target], name=name))

    conv("stem", "image", "s0", 3, channels, 3, 2)
    relu("stem_relu", "s0", "s")
    conv("left", "s", "l0", channels, channels, 3, 2)
    relu("left_relu", "l0", "l")
    conv("left2", "l", "l2", channels, channels, 3, 1)
    conv("right", "s", "r", channels, channels, 1, 2)
    nodes.append(helper.make_node("Add", ["l2", "r"], ["a0"], name="add"))
    relu("add_relu", "a0", "a")
    conv("deep", "a", "d0", channels, channels, 3, 1)
    relu("deep_relu", "d0", "d")
    conv("out", "d", "heatmaps", channels, 17, 1, 1)
    image, output = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *shape])
                     for name, shape in (("image", (3, 64, 48)), ("heatmaps", (17, 16, 12))))
    graph = helper.make_graph(nodes, "small", [image], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def taking_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network for uint8 crops (N, 64, 48, 3), which it brings to 0..1 itself."""
    make = onnx.helper.make_node
    first = [make("Cast", ["bytes"], ["wide"], to=onnx.TensorProto.FLOAT), make("Mul", ["wide", "scale"], ["scaled"]),
             make("Transpose", ["scaled"], ["image"], perm=[0, 3, 1, 2])]
    nodes = [*first, *model.graph.node]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1 / 255), "scale"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("bytes", onnx.TensorProto.UINT8, ["batch", 64, 48, 3]))
    return model


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def change_weight(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    weight = next(weight for weight in model.graph.initializer if weight.name == name)
    values = np.asarray(change(onnx.numpy_helper.to_array(weight).copy()))
    weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), name))


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def rename_all(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network by another exporter: every inner tensor, weight and node has another name."""
    names: Dict[str, str] = {"": "", "image": "input", "heatmaps": "result"}
    for node in model.graph.node:
        node.name = ""
        for side in (node.input, node.output):
            side[:] = [names.setdefault(name, str(len(names))) for name in side]
    for value in [*model.graph.initializer, *model.graph.input, *model.graph.output]:
        value.name = names[value.name]
    return model


def saturating(model: onnx.ModelProto, layer: str, after: str) -> onnx.ModelProto:
    """The same numbers in float32: `layer` gives 2^17 times as much, and the convolution `after` takes it back."""
    for part in "wb":
        change_weight(model, f"{layer}.{part}", lambda values: values * 2.0**17)
    change_weight(model, f"{after}.w", lambda values: values / 2.0**17)
    return model


def half(values: np.ndarray) -> np.ndarray:
    """Rounded to float16 with saturation, in float64."""
    return np.clip(values, -65504, 65504).astype(np.float16).astype(np.float64)


def exact(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def conv_oracle(x: np.ndarray, model: onnx.ModelProto, name: str, rounding: Callable) -> np.ndarray:
    """A convolution of `small_graph` in float64, its weights rounded first."""
    weights, bias = (rounding(onnx.numpy_helper.to_array(weight)) for part in "wb"
                     for weight in model.graph.initializer if weight.name == f"{name}.{part}")
    stride = next(attribute.ints[0] for attribute in node_of(model, name).attribute if attribute.name == "strides")
    pad = (weights.shape[2] - 1) // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("ncyxij,kcij->nkyx", windows, weights) + bias[:, None, None]


def small_oracle(crops: np.ndarray, model: onnx.ModelProto, rounding: Callable = exact) -> Dict[str, np.ndarray]:
    """Layer by layer in float64, every result passed through `rounding`: tensor -> values."""
    of: Dict[str, np.ndarray] = {}

    def conv(name: str, source: np.ndarray) -> np.ndarray:
        return conv_oracle(source, model, name, rounding)

    of["s"] = rounding(np.maximum(conv("stem", rounding(exact(crops))), 0))
    of["l"] = rounding(np.maximum(conv("left", of["s"]), 0))
    of["l2"], of["r"] = rounding(conv("left2", of["l"])), rounding(conv("right", of["s"]))
    of["a"] = rounding(np.maximum(of["l2"] + of["r"], 0))
    of["d"] = rounding(np.maximum(conv("deep", of["a"]), 0))
    of["heatmaps"] = rounding(conv("out", of["d"]))
    return of


def options(**changes: object) -> object:
    """What compare_layers.py takes, for 8 people and the gate of float16; no layers are sought."""
    from layers.comparison import Options

    values = {"people": 8, "limits": choose_limits("fp16", [], None, None), "layer_limit": 5e-3, "growth": 5.0,
              "calibrate": 8, "budget": 0, **changes}
    return Options(**values)


def make_crops() -> np.ndarray:
    return np.random.default_rng(5).uniform(-0.5, 0.6, (6, 3, 64, 48)).astype(np.float32)


def quantize(crops: np.ndarray, folder: Path, **settings: object) -> onnx.ModelProto:
    """The small network by ONNX Runtime's quantiser."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    from layers.graphs import load_graph

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = iter([{"image": crops[start:start + 2]} for start in (0, 2, 4)])

        def get_next(self):
            return next(self.rows, None)

    quantize_static(save(small_graph(), folder / "a.onnx"), folder / "b.onnx", Reader(), **settings)
    return load_graph(folder / "b.onnx")
