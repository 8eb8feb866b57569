"""Fewer bits of what a network computes: of its input, of its weights, or of everything."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List

import numpy as np

from comparison.causes.case import Case
from comparison.causes.rerun import Change
from comparison.causes.storage import ROUNDINGS
from comparison.finding import Finding, best_of

if TYPE_CHECKING:
    from onnx import ModelProto

TITLE = "computed with fewer bits: float16, bfloat16, TF32 or int8"


def test(case: Case) -> Finding:
    read = {f"rounding the crops to {name}": rounding for name, rounding in {**ROUNDINGS, "int8": to_bits}.items()}
    trials = case.crop_trials("precision", read)
    if case.model and not case.model.neither:
        trials += model_trials(case)
    return best_of(trials)


def model_trials(case: Case) -> List[Finding]:
    """The model with rounded weights, and with everything in float16 as matrix units compute it."""
    import onnx  # of compare_layers.py; results are compared without

    from contract.onnx_file import load_onnx

    model, reproduction = load_onnx(case.model.rerun.model), case.model

    def heatmaps(changed: onnx.ModelProto) -> np.ndarray:
        from backends.rooms import open_backend

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "changed.onnx"
            onnx.save(changed, path)
            rerun = type(reproduction.rerun)(path, open_backend("onnxruntime", path), reproduction.rerun.bins)
            return rerun.infer(reproduction.crops)

    roundings: Dict[str, Callable] = {
        **ROUNDINGS, "int8 per tensor": to_bits, **{f"int{bits} per channel": lambda weights, bits=bits: per_channel(
            weights, bits) for bits in (8, 7, 6, 5, 4)}}
    trials: Dict[str, Callable[[], onnx.ModelProto]] = {
        f"rounding the weights to {name}": lambda rounding=rounding: with_weights(model, rounding)
        for name, rounding in roundings.items()}
    trials["computing in float16"] = lambda: in_float16(model, str(case.model.rerun.model))
    return [reproduction.judge("precision", words, lambda changed=changed: heatmaps(changed()))
            for words, changed in trials.items()]


def with_weights(model: ModelProto, rounding: Change) -> ModelProto:
    """A copy with all weights of two axes or more rounded."""
    import onnx

    changed = type(model)()
    changed.CopyFrom(model)
    for weight in changed.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1:
            values = rounding(onnx.numpy_helper.to_array(weight))
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
    return changed


def to_bits(values: np.ndarray, bits: int = 8) -> np.ndarray:
    """Symmetric, by the largest value."""
    step = max(np.abs(values).max(), 1e-30) / (2 ** (bits - 1) - 1)
    return np.rint(values / step) * step


def per_channel(weights: np.ndarray, bits: int) -> np.ndarray:
    return np.stack([to_bits(channel, bits) for channel in weights])


def in_float16(model: ModelProto, path: str) -> ModelProto:
    from layers.graphs import find_layers
    from layers.low_precision import emulate_float16
    from layers.net import Net

    probe = Net(model, [layer.tensor for layer in find_layers(model)], path)
    return emulate_float16(model, [name for name, kind in probe.types.items() if kind == 1])
