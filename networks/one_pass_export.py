"""One pass as ONNX: what comes before and after a network joined to the network's own graph.

The network is a checkpoint, or an ONNX file of float32 crops and heatmaps, whatever made it. Its nodes keep their
names; those that are joined on begin with one_pass/crops and one_pass/decode. What is written was run, and compared
with the network alone and with networks.one_pass in torch.
"""
from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn

from contract.backend import format_shape
from contract.errors import UserError
from contract.export import DECODING_NODES, IR_VERSIONS, MAX_RELATIVE_ERROR
from contract.files import write_file
from contract.onnx_file import QUANTIZERS, load_onnx, only_input, opset_of, write_origin
from contract.pixels import FLOAT32, UINT8
from networks.fastpose import PixelInput
from networks.one_pass import Decode, Mirror
from networks.onnx_export import check_graph, export_module, noise, simplify
from networks.registry import load_network

BEFORE, AFTER = "one_pass/crops", DECODING_NODES  # start of the names of nodes that are not the network's
MOST_OF_NOISE = 1e-3  # as MAX_RELATIVE_ERROR, of joints in the heatmaps of noise by what divides by second derivatives
NETWORK = "network/"  # start of the names of the network's input and output


class Heatmaps(NamedTuple):
    """A network as an ONNX ModelProto of any batch, and what runs it as it was: crops to heatmaps."""

    model: Any
    output: str
    run: Callable[[np.ndarray], np.ndarray]


def export_one_pass(spec: Any, source: str, paths: Dict[Optional[int], str], origin: Dict[str, str],
                    opset: int) -> None:
    """Write one file for each batch of `paths`; None is any batch. `source` is a checkpoint or an ONNX file."""
    plain = dataclasses.replace(spec, dtype=FLOAT32, decode=spec.inside.decode, inside=None)
    heatmaps = of_onnx(source, plain) if source.endswith(".onnx") else of_checkpoint(source, plain, opset)
    normalise = [PixelInput(spec.mean, spec.std, channels_first=True)] if spec.dtype == UINT8 else []
    before = nn.Sequential(*normalise, Mirror(spec)).eval()
    after = Decode(spec).eval()
    for batch, path in paths.items():
        model = join(heatmaps.model, before, after, spec, plain, batch)
        write_origin(model, origin)
        compare(model, heatmaps, before, after, spec, batch or 2)
        write_file(path, model.SerializeToString())


def of_checkpoint(checkpoint: str, plain: Any, opset: int) -> Heatmaps:
    network = load_network(plain, checkpoint)
    model = export_module(network, torch.zeros(1, *plain.input_shape), "image", "output", opset, symbolic=True)
    model.ir_version = IR_VERSIONS[opset]

    def run(crops: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(crops)).numpy()

    return Heatmaps(model, "output", run)


def of_onnx(path: str, plain: Any) -> Heatmaps:
    """Raises UserError for a file whose input and output are not crops and heatmaps of the config."""
    import onnxruntime

    model, oldest, newest = load_onnx(path), min(IR_VERSIONS), max(IR_VERSIONS)
    if opset_of(model) > newest:
        raise UserError(f"{path}: its opset is {opset_of(model)}, expected at most {newest}. Export it again with one "
                        f"of {oldest} to {newest}")
    source, batch = only_input(model, path), _shape(only_input(model, path))[0]
    for what, value, expected in (("input", source, plain.input_shape),
                                  ("output", model.graph.output[0], plain.outputs["output"])):
        is_float = value.type.tensor_type.elem_type == 1
        if _shape(value)[1:] != list(expected) or not is_float or len(model.graph.output) > 1:
            raise UserError(f"{path}: its {what} is {format_shape(tuple(_shape(value)))}, expected one of float32, "
                            f"{format_shape((None, *expected))}, as the config says. One pass begins with a file of "
                            "float32 crops that gives heatmaps")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(crops: np.ndarray) -> np.ndarray:
        step = batch or len(crops)
        parts = [np.resize(crops[start:start + step], (step, *crops.shape[1:]))
                 for start in range(0, len(crops), step)]
        return np.concatenate([session.run(None, {source.name: part})[0] for part in parts])[:len(crops)]

    if opset_of(model) < oldest:
        model = _of_opset(model, path, oldest)
    return Heatmaps(_of_any_batch(model), model.graph.output[0].name, run)


def _of_opset(model: Any, path: str, opset: int) -> Any:
    from onnx import version_converter

    for node in model.graph.node:  # mxnet leaves `spatial` 0, which opset 9 has dropped, beside values of channels
        of_norm = node.op_type == "BatchNormalization"
        spatial = [one for one in node.attribute if of_norm and one.name == "spatial"]
        for attribute in spatial:
            node.attribute.remove(attribute)
    try:
        model = version_converter.convert_version(model, opset)
    except Exception as error:  # onnx's errors share no base class
        raise UserError(f"{path}: its opset is {opset_of(model)}, and onnx cannot make it {opset} "
                        f"({' '.join(str(error).split()):.200}). Export it again") from None
    model.ir_version = IR_VERSIONS[opset]
    return model


def _of_any_batch(model: Any) -> Any:
    """Shapes of one batch are forgotten; `compare` finds out whether the graph itself has forgotten them."""
    for value in (only_input(model, "the graph"), model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    return model


def _shape(value: Any) -> List[Optional[int]]:
    return [size.dim_value or None for size in value.type.tensor_type.shape.dim]


def join(network: Any, before: nn.Module, after: nn.Module, spec: Any, plain: Any, batch: Optional[int]) -> Any:
    """One graph of the three, for a `batch` of people or any."""
    import onnx
    from onnx import compose

    opset, name = opset_of(network), next(iter(spec.outputs))
    crops = (2 if spec.inside.columns else 1) * (batch or 1)
    first = export_module(before, torch.zeros(batch or 1, *spec.input_shape, dtype=getattr(torch, spec.dtype)), "image",
                          "/crops", opset, symbolic=not batch)
    last = export_module(after, torch.zeros(crops, *plain.outputs["output"]), "/maps", name, opset, symbolic=not batch)
    inner = onnx.ModelProto()
    inner.CopyFrom(network)
    if not QUANTIZERS & {node.op_type for node in inner.graph.node}:  # folding would undo them
        inner = simplify(inner, plain, batch and crops)
        check_graph(inner, batch)
    source, output = (f"{NETWORK}{value.name}" for value in (only_input(inner, "the graph"), inner.graph.output[0]))
    del inner.graph.value_info[:]  # their batch is not that of the file
    keep = {"rename_nodes": False, "rename_edges": False, "rename_initializers": False, "rename_value_infos": False}
    inner = compose.add_prefix(inner, NETWORK, **keep)
    first, last = (simplify(part, spec, None) for part in (first, last))
    first = compose.add_prefix(first, BEFORE, rename_inputs=False)
    last = compose.add_prefix(last, AFTER, rename_outputs=False)
    for part in (first, inner, last):
        part.ir_version = network.ir_version
        del part.metadata_props[:]  # what tools have left there does not merge
    joined = compose.merge_models(first, inner, [(f"{BEFORE}/crops", source)])
    joined = compose.merge_models(joined, last, [(output, f"{AFTER}/maps")])
    del joined.opset_import[:]  # of all three, and atc takes one
    joined.opset_import.extend(network.opset_import)
    return joined


def compare(model: Any, heatmaps: Heatmaps, before: nn.Module, after: Decode, spec: Any, batch: int) -> None:
    """Refuse a graph whose heatmaps are not those of the network alone, or whose reading of them is not torch's."""
    import onnxruntime

    rows = noise(spec, batch)
    shown = type(model)()
    shown.CopyFrom(model)
    shown.graph.output.add().name = f"{NETWORK}{heatmaps.output}"
    with torch.inference_mode():
        crops = before(torch.from_numpy(rows)).contiguous().numpy()
    expected = heatmaps.run(crops)
    try:
        session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
        keypoints, inside = session.run(None, {"image": rows})
    except Exception as refused:  # onnxruntime's errors share no base class
        raise UserError(f"the network does not take batches of {len(crops)} ({' '.join(str(refused).split()):.200}). "
                        "Export its heatmaps with a symbolic batch first") from None
    with torch.inference_mode():
        read: Tensor = after(torch.from_numpy(inside))
    error = float(np.abs(inside - expected).max() / np.abs(expected).max())
    apart = float(np.abs(keypoints - read.numpy()).max() / max(1.0, float(read.abs().max())))
    most = MAX_RELATIVE_ERROR if after.find.is_steady else MOST_OF_NOISE
    if not (error <= MAX_RELATIVE_ERROR and apart <= most):
        raise UserError(f"the one-pass file of batch {batch} differs from the network by {error:.1e} of the largest "
                        f"value, expected at most {MAX_RELATIVE_ERROR:.0e}, and from torch's reading of it by "
                        f"{apart:.1e}, expected at most {most:.0e}. It was not written")
