"""A darknet network as ONNX: one file that takes any batch, and one of static shape for each batch size asked for.

    python3 -m detection.export configs/yolov3-spp.cfg yolov3-spp.weights models/yolov3-spp.onnx --batch 1 16

Every file is run by ONNX Runtime and compared with the same network in torch, where batch norm is not folded, before
it is on disk.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from contract.arguments import HelpFormatter, at_least
from contract.errors import UserError
from contract.export import MAX_RELATIVE_ERROR, add_arguments, parse_export_args, paths_by_batch
from contract.files import PathLike, make_folder, sha256_of_file, write_file
from contract.locks import hold
from contract.onnx_file import read_origin, write_origin
from detection.blocks import Network
from detection.darknet import Arrays, read_cfg, read_weights


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m detection.export", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("cfg", help="darknet's .cfg")
    parser.add_argument("weights", help="darknet's .weights of that cfg")
    parser.add_argument("--person_class", type=at_least(0), help="class of people, counted from 0 (default: "
                        "that called person in the .names file beside the cfg; else 0, of COCO's 80 classes or of one)")
    add_arguments(parser)
    return parse_export_args(parser, argv)


def export(cfg: PathLike, weights: PathLike, output: PathLike, batches: Sequence[int] = (),
           opset: int = 11, person_class: Optional[int] = None) -> List[Path]:
    """Write `output` and one file for each of `batches`; their paths. Nothing is written that differs from torch, and
    what was made from the same weights and cfg is kept."""
    from detection.onnx_graph import build_onnx

    network = read_cfg(cfg).of_person(person_class)
    arrays, person = read_weights(weights, network), network.heads[0].person
    origin = {"cfg_sha256": sha256_of_file(cfg), "weights_sha256": sha256_of_file(weights), "opset": str(opset),
              **({"person_class": str(person)} if person else {})}
    paths = paths_by_batch(output, batches)
    wanted = {batch: path for batch, path in paths.items() if read_origin(path) != origin}
    for path in set(paths.values()).difference(wanted.values()):
        print(f"{path}: kept, of the same weights and cfg")
    if wanted:
        oracle = _build_oracle(network, arrays)
        make_folder(paths[None].parent)
    with hold(*paths.values()):
        for batch, path in wanted.items():
            model = build_onnx(network, arrays, batch, opset)
            write_origin(model, origin)
            content = model.SerializeToString()
            error = relative_error(content, oracle, (batch or 2, *network.input_shape))
            if not error <= MAX_RELATIVE_ERROR:
                raise UserError(f"{path}: not written. It differs from torch by {error:.1e} of the largest value, "
                                f"expected at most {MAX_RELATIVE_ERROR:.0e}. Is this ONNX Runtime one of "
                                "requirements.txt?")
            write_file(path, content)
            print(f"{path}: {len(content)} bytes, differs from torch by {error:.1e} of the largest value")
    return list(paths.values())


def _build_oracle(network: Network, arrays: List[Arrays]):
    try:
        from networks.darknet import build_darknet
    except ModuleNotFoundError as error:
        raise UserError("the export is compared with PyTorch before it is written, and the Python package "
                        f"{error.name} is not installed. Install it, or export where it is") from None
    return build_darknet(network, arrays)


def relative_error(content: bytes, oracle, shape: Sequence[int]) -> float:
    """Largest difference between an ONNX file and torch on a batch of noise, over the largest value."""
    import onnx
    import onnxruntime
    import torch

    onnx.checker.check_model(content, full_check=True)
    images = np.random.default_rng(0).random(shape, np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rows = session.run(["output"], {"image": images})[0]
    with torch.inference_mode():
        expected = oracle(torch.from_numpy(images[[0, -1]])).numpy()  # each photo is on its own
    return float(np.abs(rows[[0, -1]] - expected).max() / np.abs(expected).max())


def main() -> None:
    args = parse_args()
    export(args.cfg, args.weights, args.output, args.batch, args.opset, args.person_class)


if __name__ == "__main__":
    sys.exit(exit_code(main))
