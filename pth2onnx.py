"""Export a checkpoint to ONNX: one file that takes any batch, and one simplified file per batch size.

    python3 pth2onnx.py configs/256x192_res50_lr1e-3_1x.yaml models/fast_res50_256x192.pth \\
        models/fast_res50_256x192.onnx --batch 1 16

Input `image`, output `output`. Every file is run and compared with torch before it is left on disk; one that is there
already and was made from the same checkpoint and config is kept.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import sys
from typing import Any, List, Optional

from contract.arguments import HelpFormatter
from contract.errors import UserError
from contract.export import add_arguments, parse_export_args
from contract.pixels import DTYPES, FLOAT32
from contract.spec import load_spec


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("config", help="AlphaPose's YAML or ours; that of a ReID model has TASK: reid")
    parser.add_argument("checkpoint", help="state_dict, such as fast_res50_256x192.pth")
    add_arguments(parser)
    parser.add_argument("--dtype", choices=list(DTYPES), default=FLOAT32,
                        help="of the bins that the files take; those of uint8 normalise, and are named ..._uint8.onnx")
    return parse_export_args(parser, argv)


def main() -> None:
    args = parse_args()
    spec: Any = load_spec(args.config)
    if spec.network == "darknet":
        raise UserError(f"{args.config}: is a config of a detector. python3 -m detection.export exports it")
    from networks.onnx_export import export_onnx  # here, because --help needs no torch

    export_onnx(dataclasses.replace(spec, dtype=args.dtype), args.checkpoint, args.output, args.batch, args.opset)


if __name__ == "__main__":
    sys.exit(exit_code(main))
