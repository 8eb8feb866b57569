"""Export a FastPose checkpoint to ONNX: one file that takes any batch, and one simplified file per batch size.

    python3 pth2onnx.py configs/256x192_res50_lr1e-3_1x.yaml models/fast_res50_256x192.pth \\
        models/fast_res50_256x192.onnx --batch 1 16

Input `image`, output `output`. Every file is run and compared with torch before it is left on disk; one that is there
already and was made from the same checkpoint and config is kept.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import inspect
import io
import json
import os
import sys
import warnings
from typing import Any, Dict, List, Optional

import numpy as np

from contract.arguments import HelpFormatter
from contract.errors import UserError
from contract.export import IR_VERSIONS, MAX_RELATIVE_ERROR, add_arguments, parse_export_args, paths_by_batch
from contract.files import make_folder, sha256_of_file, write_file
from contract.locks import hold
from contract.onnx_file import read_origin, write_origin
from contract.pixels import DTYPES, FLOAT32, UINT8, pixel_constants
from networks.registry import parameters_of
from pose.spec import PoseSpec, load_spec

ARITHMETIC_ON_SHAPES = {"Shape", "Gather", "ConstantOfShape", "Range", "NonZero"}


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("config", help="AlphaPose's YAML or ours")
    parser.add_argument("checkpoint", help="state_dict, such as fast_res50_256x192.pth")
    add_arguments(parser)
    parser.add_argument("--dtype", choices=list(DTYPES), default=FLOAT32,
                        help="of the bins that the files take; those of uint8 normalise, and are named ..._uint8.onnx")
    return parse_export_args(parser, argv)


def pth2onnx(config: PoseSpec, checkpoint: str, output: str, batches: List[int], opset: int = 11) -> List[str]:
    """Write `output` and one file for each of `batches`; their paths. What does not agree with torch is not written."""
    if not os.path.exists(checkpoint):
        raise UserError(f"{checkpoint}: no such checkpoint")
    origin = {"checkpoint_sha256": sha256_of_file(checkpoint), "opset": str(opset),
              "config": json.dumps({"network": config.network, **parameters_of(config), **config.of_data(),
                                    "dtype": config.dtype}, sort_keys=True),
              "pixel_constants": json.dumps(pixel_constants(config.mean, config.std))}  # for ascend.atc --uint8
    suffix = "_uint8.onnx" if config.dtype == UINT8 else ".onnx"
    paths = {batch: str(path.with_name(path.stem + suffix)) for batch, path in paths_by_batch(output, batches).items()}
    wanted = {batch: path for batch, path in paths.items() if read_origin(path) != origin}
    if wanted:
        make_folder(os.path.dirname(output) or ".")
        with hold(*paths.values()):
            export_files(config, checkpoint, wanted, origin, opset)
    for path in paths.values():
        print(f"{path}: {'written' if path in wanted.values() else 'kept, of the same checkpoint and config'}")
    return list(paths.values())


def export_files(config: PoseSpec, checkpoint: str, paths: Dict[Optional[int], str], origin: Dict[str, str],
                 opset: int) -> None:
    """Export, simplify, compare and write one file for each batch of `paths`; None is any batch."""
    from torch import nn

    from networks.fastpose import PixelInput
    from networks.registry import load_network

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


def export(network: Any, config: PoseSpec, opset: int) -> Any:
    """The network as an ONNX ModelProto whose first axis is symbolic."""
    import onnx
    import torch

    stream = io.BytesIO()
    # The exporter that reaches opset 11 is torch's older one, which later releases must be asked for.
    older = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(network, torch.zeros(1, *config.input_shape, dtype=getattr(torch, config.dtype)), stream,
                          opset_version=opset, input_names=["image"], output_names=["output"],
                          dynamic_axes={"image": {0: "batch"}, "output": {0: "batch"}}, **older)
    return onnx.load_from_string(stream.getvalue())


def simplify(model: Any, config: PoseSpec, batch: Optional[int]) -> Any:
    """Constant-fold and clean the graph; with a `batch`, make every shape static."""
    import onnxsim

    shapes = {"image": [batch, *config.input_shape]} if batch else None
    simplified, same = onnxsim.simplify(model, overwrite_input_shapes=shapes)
    if not same:
        raise UserError("onnxsim changed the numbers of the graph. Install another version of onnxsim")
    return simplified


def check_graph(model: Any, batch: Optional[int]) -> None:
    """Refuse a per-batch graph that still computes shapes, and any operator that is not of the ONNX standard."""
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    left = ARITHMETIC_ON_SHAPES.intersection(node.op_type for node in model.graph.node) if batch else set()
    if foreign or left:
        raise UserError(f"the exported graph holds {', '.join(sorted(foreign | left))}: this torch or onnxsim exports "
                        "what atc does not take. Install the versions of requirements.txt")


def compare(network: Any, content: bytes, config: PoseSpec, batch: int) -> None:
    """Run an ONNX file on crops of noise and refuse it when it differs from torch by more than MAX_RELATIVE_ERROR."""
    import onnxruntime
    import torch

    low, high = (0, 256) if config.dtype == UINT8 else (-0.5, 0.6)
    crops = np.random.default_rng(0).uniform(low, high, (batch, *config.input_shape)).astype(config.dtype)
    with torch.inference_mode():
        expected = network(torch.from_numpy(crops)).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    heatmaps = session.run(["output"], {"image": crops})[0]
    error = float(np.abs(heatmaps - expected).max() / np.abs(expected).max())
    if not error <= MAX_RELATIVE_ERROR:
        raise UserError(f"the ONNX file of batch {batch} differs from torch by {error:.1e} of the largest value, "
                        f"expected at most {MAX_RELATIVE_ERROR:.0e}. It was not written")


def main() -> None:
    args = parse_args()
    config = dataclasses.replace(load_spec(args.config), dtype=args.dtype)
    pth2onnx(config, args.checkpoint, args.output, args.batch, args.opset)


if __name__ == "__main__":
    sys.exit(exit_code(main))
