"""Pairs of results that differ by what does not matter: threads, batches, exporters, engines, storage in float16.

Of each the answer must be that the results agree. What needs a package that is not installed, or the checkpoint of the
model, is left out and named.
"""
from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np
from faults import BATCH, World

from backends.rooms import open_backend
from contract.backend import infer_rows

Pairs = Dict[str, Callable[[World], np.ndarray]]
LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}


def benign_pairs(folder: Path, checkpoint: Optional[str]) -> Pairs:
    """`folder` is for other files of the model."""
    pairs: Pairs = {
        "the same": lambda w: w.dumps, "stored as float16": lambda w: w.dumps.astype(np.float16),
        "float16 and back": lambda w: w.dumps.astype(np.float16).astype(np.float32),
        "people in reversed order, put back": lambda w: w.infer(w.crops[::-1])[::-1],
        "the last batch padded": lambda w: w.infer(np.concatenate([w.crops, w.crops[:5]]))[:len(w.crops)]}
    pairs.update({f"batches of {batch}": partial(in_batches, batch=batch) for batch in (1, 3, 7)})
    pairs.update({f"{threads} threads": partial(by_session, intra_op_num_threads=threads) for threads in (1, 4)})
    pairs.update({f"{name} optimisations": partial(by_session, level=level) for name, level in LEVELS.items()})
    pairs["the file that ONNX Runtime optimised"] = partial(optimised, folder=folder)
    pairs["weights in a file beside"] = partial(external, folder=folder)
    pairs.update({f"noise of {size:g} of the largest value": partial(noisy, size=size) for size in (1e-6, 1e-5, 1e-4)})
    if importlib.util.find_spec("openvino"):
        pairs["OpenVINO"] = partial(by_room, room="openvino")
    if checkpoint:
        pairs["PyTorch"] = partial(by_room, room="pytorch", model=checkpoint)
        pairs["torch's older exporter, without onnxsim"] = partial(exported, checkpoint=checkpoint, folder=folder)
        if importlib.util.find_spec("onnxscript"):
            pairs["torch's newer exporter"] = partial(exported, checkpoint=checkpoint, folder=folder, dynamo=True)
    return pairs


def in_batches(w: World, batch: int) -> np.ndarray:
    return np.concatenate([w.infer(w.crops[first:first + batch]) for first in range(0, len(w.crops), batch)])


def noisy(w: World, size: float) -> np.ndarray:
    """As another order of sums."""
    noise = np.random.default_rng(0).standard_normal(w.dumps.shape)
    return (w.dumps + size * np.abs(w.dumps).max() * noise).astype(np.float32)


def session_options(level: str = "ORT_ENABLE_ALL", **settings: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an optimised file is for this machine, it would warn
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    for name, value in settings.items():
        setattr(options, name, value)
    return options


def by_session(w: World, **settings: Any) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(w.model), session_options(**settings),
                                           providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: w.crops[first:first + BATCH]})[0]
                           for first in range(0, len(w.crops), BATCH)])


def optimised(w: World, folder: Path) -> np.ndarray:
    import onnxruntime

    onnxruntime.InferenceSession(str(w.model), session_options(optimized_model_filepath=str(folder / "optimised.onnx")),
                                 providers=["CPUExecutionProvider"])
    return by_session(w._replace(model=folder / "optimised.onnx"))


def external(w: World, folder: Path) -> np.ndarray:
    import onnx

    onnx.save(onnx.load(w.model), folder / "beside.onnx", save_as_external_data=True, location="beside.bin",
              size_threshold=0)
    return w.infer(w.crops, folder / "beside.onnx")


def by_room(w: World, room: str, model: Optional[str] = None) -> np.ndarray:
    backend = open_backend(room, model or w.model, spec=w.spec)
    try:
        return infer_rows(backend, w.crops, backend.input_shape[0] or BATCH)
    finally:
        backend.close()


def exported(w: World, checkpoint: str, folder: Path, dynamo: bool = False) -> np.ndarray:
    import torch

    from networks.registry import load_network

    path, batch = folder / f"exported_{dynamo}.onnx", torch.zeros(BATCH, *w.spec.input_shape)
    older: Dict[str, Any] = {} if dynamo else {"opset_version": 13}
    torch.onnx.export(load_network(w.spec, checkpoint), (batch,), path, dynamo=dynamo, verbose=False, **older)
    return in_batches(w._replace(model=path), BATCH)
