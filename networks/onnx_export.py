"""From a checkpoint to ONNX files, for every network that a spec names: one that takes any batch, and one simplified
file per batch size. What is written was run and compared with torch."""
from __future__ import annotations

import dataclasses
import inspect
import io
import json
import os
import warnings
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import torch
from torch import Tensor, nn

from contract.errors import UserError
from contract.export import IR_VERSIONS, MAX_EMBEDDING_ERROR, MAX_RELATIVE_ERROR, paths_by_batch
from contract.files import make_folder, write_file
from contract.locks import hold
from contract.onnx_file import only_input, read_origin, sha256_of_model, write_origin
from contract.pixels import UINT8, pixel_constants
from networks.fastpose import PixelInput
from networks.registry import NETWORKS, load_network, parameters_of

ARITHMETIC_ON_SHAPES = {"Shape", "Gather", "ConstantOfShape", "Range", "NonZero"}


def export_files(config: Any, checkpoint: str, paths: Dict[Optional[int], str], origin: Dict[str, str],
                 opset: int) -> None:
    """Export, simplify, compare and write one file for each batch of `paths`; None is any batch."""
    network = load_network(config, checkpoint)
    if config.dtype == UINT8:
        network = nn.Sequential(PixelInput(config.mean, config.std), network).eval()
    exported = export(network, config, opset)
    for batch, path in paths.items():
        model = simplify(exported, config, batch)
        model.ir_version = IR_VERSIONS[opset]
        write_origin(model, origin)
        check_graph(model, batch)
        content = model.SerializeToString()
        compare(network, content, config, batch or 2)
        write_file(path, content)


def export_onnx(config: Any, checkpoint: str, output: str, batches: List[int], opset: int = 11,
                write: Callable[..., None] = export_files) -> List[str]:
    """Write `output` and one file for each of `batches`; their paths. What does not agree with torch is not written.
    `write` makes the files."""
    if not os.path.exists(checkpoint):
        raise UserError(f"{checkpoint}: no such checkpoint")
    origin = {"checkpoint_sha256": sha256_of_model(checkpoint), "opset": str(opset), "config": describe(config),
              "pixel_constants": json.dumps(pixel_constants(config.mean, config.std))}  # for ascend.atc --uint8
    suffix = f"{suffix_of(config)}.onnx"
    paths = {batch: str(path.with_name(path.stem + suffix)) for batch, path in paths_by_batch(output, batches).items()}
    wanted = {batch: path for batch, path in paths.items() if read_origin(path) != origin}
    if wanted:
        make_folder(os.path.dirname(output) or ".")
        with hold(*paths.values()):
            write(config, checkpoint, wanted, origin, opset)
    for path in paths.values():
        print(f"{path}: {'written' if path in wanted.values() else 'kept, of the same checkpoint and config'}")
    return list(paths.values())


def describe(config: Any) -> str:
    """What was exported, apart from the checkpoint."""
    parameters = parameters_of(config) if config.network in NETWORKS else {}
    inside = getattr(config, "inside", None)
    return json.dumps({"network": config.network, **parameters, **config.of_data(), "dtype": config.dtype,
                       **({"inside": dataclasses.asdict(inside)} if inside else {})}, sort_keys=True)


def suffix_of(config: Any) -> str:
    """Of the names of files: what they take and give beyond float32 in and the network's output."""
    if not getattr(config, "inside", None):
        return "_uint8" if config.dtype == UINT8 else ""
    heatmaps = "_heatmaps" if "output" in config.outputs else ""
    return f"_one_pass{heatmaps}{'' if config.dtype == UINT8 else '_float32'}"


def export(network: Any, config: Any, opset: int) -> Any:
    """The network as an ONNX ModelProto whose first axis is symbolic."""
    rows = torch.zeros(1, *config.input_shape, dtype=getattr(torch, config.dtype))
    return export_module(network, rows, "image", "output", opset, symbolic=True)


def export_module(module: Any, rows: Tensor, source: str, output: str, opset: int, symbolic: bool) -> Any:
    """A torch module of one input and one output as an ONNX ModelProto, for the batch of `rows` or a symbolic one."""
    import onnx

    stream = io.BytesIO()
    # The exporter that reaches opset 11 is torch's older one, which later releases must be asked for.
    exporter: Any = torch.onnx.export
    older = {"dynamo": False} if "dynamo" in inspect.signature(exporter).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        exporter(module, rows, stream, opset_version=opset, input_names=[source], output_names=[output],
                 dynamic_axes={source: {0: "batch"}, output: {0: "batch"}} if symbolic else {}, **older)
    return onnx.load_from_string(stream.getvalue())


def simplify(model: Any, config: Any, batch: Optional[int]) -> Any:
    """Constant-fold and clean the graph; with a `batch`, make every shape static."""
    import onnxsim

    shapes = {only_input(model, "the graph").name: [batch, *config.input_shape]} if batch else None
    simplified, same = onnxsim.simplify(model, overwrite_input_shapes=shapes)
    if not same:
        raise UserError("onnxsim changed the numbers of the graph. Install another version of onnxsim")
    return simplified


def check_graph(model: Any, batch: Optional[int]) -> None:
    """Refuse a per-batch graph that still computes shapes, and any operator outside the ONNX standard."""
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    left = ARITHMETIC_ON_SHAPES.intersection(node.op_type for node in model.graph.node) if batch else set()
    if foreign or left:
        raise UserError(f"the exported graph holds {', '.join(sorted(foreign | left))}: this torch or onnxsim exports "
                        "what atc does not take. Install the versions of requirements.txt")


def compare(network: Any, content: bytes, config: Any, batch: int) -> None:
    """Run an ONNX file on crops of noise and refuse it when it differs from torch too much for float32."""
    import onnxruntime

    crops = noise(config, batch)
    with torch.inference_mode():
        expected = network(torch.from_numpy(crops)).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = session.run(["output"], {"image": crops})[0]
    error = float(np.abs(outputs - expected).max() / np.abs(expected).max())
    most = MAX_EMBEDDING_ERROR if config.decode == "embedding" else MAX_RELATIVE_ERROR
    if not error <= most:
        raise UserError(f"the ONNX file of batch {batch} differs from torch by {error:.1e} of the largest value, "
                        f"expected at most {most:.0e}. It was not written")


def noise(config: Any, batch: int) -> np.ndarray:
    """Rows of the model's input, from black to white."""
    mean, std = np.array(config.mean), np.array(config.std)
    low, high = (0, 256) if config.dtype == UINT8 else (float((-mean / std).min()), float(((1 - mean) / std).max()))
    return np.random.default_rng(0).uniform(low, high, (batch, *config.input_shape)).astype(config.dtype)
