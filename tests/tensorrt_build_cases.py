"""What the tests of the TensorRT builder share: ours on an emulated machine, and ONNX files of other precisions."""
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import numpy as np

from tests.tensorrt_emulator import emulated, load

VERSIONS = ("8.6.1", "10.3.0", "11.4.0")


def builder(main: Callable[..., SimpleNamespace]) -> Callable[..., SimpleNamespace]:
    """Runs our builder in this process on an emulated machine, which must be left as it was found."""

    def run(*arguments: object, layout: str = "new", **config: object) -> SimpleNamespace:
        with emulated(layout, **config) as machine:
            finished = main("backends.tensorrt.build", *arguments)
            finished.counts = machine.counts
            assert machine.state.leaks() == {} and machine.notes == []
        return finished

    return run


def rewritten(model: Path, change: Callable[[Any, Any], None]) -> Path:
    """The ONNX file after `change` was called with its content."""
    import onnx

    content = onnx.load(model)
    change(content, onnx)
    onnx.save(content, model)
    return model


def quantized(model: Path) -> Path:
    """As a tool writes QDQ: the input through QuantizeLinear and back."""
    def change(content, onnx):
        scale = onnx.numpy_helper.from_array(np.float32(0.02), "scale")
        zero = onnx.numpy_helper.from_array(np.int8(0), "zero")
        content.graph.initializer.extend([scale, zero])
        content.graph.node[0].input[0] = "back"
        for operator, source, result in (("DequantizeLinear", "levels", "back"), ("QuantizeLinear", "image", "levels")):
            content.graph.node.insert(0, onnx.helper.make_node(operator, [source, "scale", "zero"], [result]))
    return rewritten(model, change)


def half(model: Path) -> Path:
    """With float16 weights, as AutoCast writes them."""
    def change(content, onnx):
        weights = onnx.numpy_helper.to_array(content.graph.initializer[0]).astype(np.float16)
        content.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "half"))
        content.graph.node.insert(0, onnx.helper.make_node("Cast", ["half"], ["weights"], to=1))
    return rewritten(model, change)


def plan_of(engine: Path) -> dict:
    """What the emulated builder was asked for."""
    return load("plan").read(engine.read_bytes())[0]


def record_of(engine: Path) -> dict:
    return json.loads(Path(f"{engine}.json").read_text())
