"""Export a checkpoint to ONNX: one file that takes any batch, and one simplified file per batch size.

    python3 pth2onnx.py configs/256x192_res50_lr1e-3_1x.yaml models/fast_res50_256x192.pth \\
        models/fast_res50_256x192.onnx --batch 1 16

Input `image`, output `output`. Every file is run and compared with torch before it gets its name. A file that is
already there is kept if it was made from the same checkpoint and config.

    python3 pth2onnx.py configs/256x192_res50_lr1e-3_1x.yaml models/fast_res50_256x192.pth \\
        models/fast_res50_256x192.onnx --batch 16 --one_pass

With --one_pass the model mirrors the crop, averages and finds the joints itself: bytes (N, H, W, 3) in, `keypoints`
(N, K, 3) out, x and y in pixels of the crop and the score.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import sys
from typing import Any, List, Optional

from contract.arguments import HelpFormatter
from contract.errors import UserError
from contract.export import IR_VERSIONS, add_arguments, parse_export_args
from contract.onnx_file import load_onnx, opset_of
from contract.pixels import DTYPES, FLOAT32, UINT8
from contract.spec import load_spec
from pose.heatmaps import FLIP_SHIFTS
from pose.spec import PoseSpec


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("config", help="AlphaPose's YAML or ours; the YAML of a ReID model has TASK: reid")
    parser.add_argument("checkpoint", help="state_dict, such as fast_res50_256x192.pth. With --one_pass also an .onnx "
                        "from float32 crops to heatmaps; its opset is kept, or raised to 11 if it is lower")
    add_arguments(parser)
    parser.add_argument("--dtype", choices=list(DTYPES),
                        help="type of the bins that the files take. Files for uint8 normalise their input, and are "
                        "named ..._uint8.onnx (default: float32, with --one_pass uint8)")
    one_pass = parser.add_argument_group("one pass")
    one_pass.add_argument("--one_pass", action="store_true", help="write files that give keypoints, "
                          "..._one_pass.onnx; with --dtype float32, which AIPP of an Ascend NPU needs, "
                          "..._one_pass_float32.onnx")
    one_pass.add_argument("--no_flip", action="store_true", help="do not use the mirrored crop: half the work, and "
                          "less accurate")
    one_pass.add_argument("--flip_shift", choices=sorted(FLIP_SHIFTS), default="clean", help="as in postprocess.py")
    one_pass.add_argument("--also_heatmaps", action="store_true", help="beside each file, write a second one that "
                          "gives the mean heatmaps of the same graph, ..._one_pass_heatmaps.onnx. It helps to find "
                          "where two devices begin to differ")
    args = parse_export_args(parser, argv)
    given = [f"--{name}" for name in ("no_flip", "flip_shift", "also_heatmaps")
             if getattr(args, name) != parser.get_default(name)]
    if given and not args.one_pass:
        parser.error(f"{', '.join(given)}: only with --one_pass")
    if {"--no_flip", "--flip_shift"} <= set(given):
        parser.error(f"--flip_shift {args.flip_shift}: not with --no_flip, with which no crop is mirrored")
    return args


def specs_of(spec: Any, args: argparse.Namespace) -> List[Any]:
    """The models to export: the network unchanged, or the one-pass model and, on request, one of its heatmaps."""
    if not args.one_pass:
        return [dataclasses.replace(spec, dtype=args.dtype or FLOAT32)]
    if not isinstance(spec, PoseSpec):
        raise UserError(f"{args.config}: its model finds no joints, so it cannot be exported with --one_pass")
    flip_shift = None if args.no_flip else args.flip_shift
    return [spec.one_pass(flip_shift, args.dtype or UINT8, heatmaps)
            for heatmaps in ((False, True) if args.also_heatmaps else (False,))]


def main() -> None:
    args = parse_args()
    spec: Any = load_spec(args.config)
    if spec.network == "darknet":
        raise UserError(f"{args.config}: is the config of a detector. Export it with python3 -m detection.export")
    specs = specs_of(spec, args)
    from networks import one_pass_export, onnx_export  # here, because --help needs no torch

    write = one_pass_export.export_one_pass if args.one_pass else onnx_export.export_files
    is_onnx = args.one_pass and args.checkpoint.endswith(".onnx")
    opset = max(min(IR_VERSIONS), opset_of(load_onnx(args.checkpoint, weights=False))) if is_onnx else args.opset
    for one in specs:
        onnx_export.export_onnx(one, args.checkpoint, args.output, args.batch, opset, write)


if __name__ == "__main__":
    sys.exit(exit_code(main))
