"""A darknet network as ONNX: one file that takes any batch, and one of static shape for each batch size asked for.

    python3 -m yolov3.export configs/yolov3-spp.cfg yolov3-spp.weights models/yolov3-spp.onnx --batch 1 16

Every file is run by ONNX Runtime and compared with the same network in torch, where batch norm is not folded, before
it is on disk.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from pose.errors import UserError, exit_code
from pose.files import PathLike, make_folder, write_file
from yolov3.darknet import read_cfg, read_weights

OPSETS = (11, 13, 17)
MAX_RELATIVE_ERROR = 1e-5  # of the largest value, ONNX Runtime against torch, both float32


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m yolov3.export", description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("cfg", help="darknet's .cfg")
    parser.add_argument("weights", help="darknet's .weights of that cfg")
    parser.add_argument("output", help="the .onnx that takes any batch; the others are named after it, ..._bs16.onnx")
    parser.add_argument("--batch", type=int, nargs="*", default=[], help="batch sizes to make a static file for")
    parser.add_argument("--opset", type=int, choices=OPSETS, default=11, help="11 suits every CANN")
    args = parser.parse_args(argv)
    if not args.output.endswith(".onnx"):
        parser.error(f"the output is {args.output}, expected a name that ends in .onnx")
    if any(batch < 1 for batch in args.batch):
        parser.error(f"--batch is {args.batch}, expected at least 1 each")
    return args


def export(cfg: PathLike, weights: PathLike, output: PathLike, batches: Sequence[int] = (),
           opset: int = 11) -> List[Path]:
    """Write `output` and one file for each of `batches`; their paths. Nothing is written that differs from torch."""
    from yolov3.onnx_graph import build_onnx

    network, output = read_cfg(cfg), Path(output)
    arrays = read_weights(weights, network)
    oracle = _load_oracle(network, weights)
    make_folder(output.parent)
    paths = {None: output, **{batch: output.with_name(f"{output.stem}_bs{batch}.onnx") for batch in batches}}
    for batch, path in paths.items():
        content = build_onnx(network, arrays, batch, opset).SerializeToString()
        error = relative_error(content, oracle, (batch or 2, *network.input_shape))
        if not error <= MAX_RELATIVE_ERROR:
            raise UserError(f"{path}: not written. It differs from torch by {error:.1e} of the largest value, expected "
                            f"at most {MAX_RELATIVE_ERROR:.0e}. Is this ONNX Runtime one of requirements.txt?")
        write_file(path, content)
        print(f"{path}: {len(content)} bytes, differs from torch by {error:.1e} of the largest value")
    return list(paths.values())


def _load_oracle(network, weights: PathLike):
    try:
        from networks.darknet import load_darknet
    except ModuleNotFoundError as error:
        raise UserError("the export is compared with PyTorch before it is written, and the Python package "
                        f"{error.name} is not installed. Install it, or export where it is") from None
    return load_darknet(network, weights)


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
        expected = oracle(torch.from_numpy(images[[0, -1]])).numpy()  # each photograph is on its own
    return float(np.abs(rows[[0, -1]] - expected).max() / np.abs(expected).max())


def main() -> None:
    args = parse_args()
    export(args.cfg, args.weights, args.output, args.batch, args.opset)


if __name__ == "__main__":
    sys.exit(exit_code(main))
