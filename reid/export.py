"""Export a ReID checkpoint: to ONNX, and from there to Caffe, a TensorRT engine or an Ascend .om.

    python3 -m reid.export --checkpoint models/market_bot_R50.pth --output models/bot_r50 --format onnx caffe

Writes models/bot_r50.onnx, which takes any batch, models/bot_r50_bsN.onnx for each --batch-size, and what the other
formats add. With --name, --output is a folder, as FastReID's export scripts take it.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any, List, Optional, Tuple

from contract.arguments import HelpFormatter, at_least, parse
from contract.errors import UserError
from contract.export import IR_VERSIONS
from contract.onnx_file import load_onnx, only_input
from contract.pixels import DTYPES, FLOAT32
from contract.workers import run_together
from reid.spec import ReidSpec, load_spec

DEFAULT_CONFIG = "configs/bot_r50_market1501.yaml"
WEIGHTS = "MODEL.WEIGHTS"  # of --opts: the checkpoint
FORMATS = ("onnx", "caffe", "tensorrt", "om")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m reid.export", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--config-file", default=DEFAULT_CONFIG, help="YAML of the model, ours or FastReID's")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--checkpoint", help="FastReID's .pth; --opts MODEL.WEIGHTS FILE says the same")
    source.add_argument("--onnx-model", help="start from this ONNX file, of any ReID network")
    parser.add_argument("--output", required=True, help="path of the files without suffix, or with --name their folder")
    parser.add_argument("--name", help="of the files in --output")
    parser.add_argument("--format", choices=FORMATS, nargs="+", default=["onnx"], help="what to write besides ONNX")
    parser.add_argument("--batch-size", type=at_least(1), nargs="*", default=[], help="batches to make a file for; "
                        "engines and .om are of batch 1 without")
    parser.add_argument("--height", type=at_least(1), help="of the input; the config's if not given")
    parser.add_argument("--width", type=at_least(1), help="of the input; the config's if not given")
    parser.add_argument("--dtype", choices=DTYPES, default=FLOAT32, help="uint8: the crop's own bytes, (H, W, 3)")
    parser.add_argument("--l2", action="store_true", help="give features of length 1")
    parser.add_argument("--opset", type=int, choices=sorted(IR_VERSIONS), default=11, help="of the ONNX files")
    parser.add_argument("--mode", choices=("fp32", "fp16", "int8"), default="fp32", help="precision of the engine")
    parser.add_argument("--soc_version", help="chip of the .om, such as Ascend310P3")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="changes to the "
                        "config, as FastReID takes them; the last of all arguments")
    args = parse(parser, argv)
    if "om" in args.format and not args.soc_version:
        parser.error("--format om: expected --soc_version, the chip, such as Ascend310P3; python3 -m ascend.soc")
    return args


def read_request(args: argparse.Namespace) -> Tuple[ReidSpec, Optional[str]]:
    """The model, with everything that flags change, and its checkpoint. Raises UserError without any."""
    changes, checkpoint = list(args.opts), args.checkpoint
    if WEIGHTS in changes[::2]:
        place = 2 * changes[::2].index(WEIGHTS)
        checkpoint = checkpoint or (changes[place + 1] if place + 1 < len(changes) else None)
        del changes[place:place + 2]
    spec = load_spec(args.config_file, changes)
    if not checkpoint and not args.onnx_model:
        raise UserError("expected --checkpoint FILE, or --onnx-model FILE to begin with an ONNX file")
    size = (args.height or spec.input_size[0], args.width or spec.input_size[1])
    parameters = {**spec.parameters, "L2": args.l2 or spec.parameters["L2"]}
    return dataclasses.replace(spec, input_size=size, dtype=args.dtype, parameters=parameters), checkpoint


def check_onnx(path: str, spec: ReidSpec) -> str:
    """`path`. Raises UserError where its input is not the spec's."""
    image: Any = only_input(load_onnx(path, weights=False), path)
    came = tuple(dim.dim_value for dim in image.type.tensor_type.shape.dim)[1:]
    if came != spec.input_shape:
        raise UserError(f"{path}: takes {came}, expected {spec.input_shape}. Give --height and --width, or the "
                        "--config-file of this model")
    return path


def builders(args: argparse.Namespace, onnx_model: str, base: Path) -> List[List[str]]:
    """The commands that make the other formats, as a user would type them."""
    commands = []
    if "caffe" in args.format:
        commands.append(["backends.caffe.build", onnx_model, "--output", str(base)])
    for batch in args.batch_size or [1]:
        if "tensorrt" in args.format:
            engine = f"{base}_bs{batch}_{args.mode}.engine"
            commands.append(["backends.tensorrt.build", onnx_model, "--output", engine, "--batch", str(batch),
                             "--precision", args.mode, "--cfg", args.config_file])
        if "om" in args.format:
            commands.append(["ascend.atc", onnx_model, "--output", f"{base}_bs{batch}.om", "--batch", str(batch),
                             "--soc_version", args.soc_version])
    return commands


def main() -> None:
    args = parse_args()
    spec, checkpoint = read_request(args)
    base = Path(args.output, args.name) if args.name else Path(args.output)
    if args.onnx_model:
        onnx_model = check_onnx(args.onnx_model, spec)
    else:
        from networks.onnx_export import export_onnx  # here, because --help and other formats need no torch

        onnx_model = export_onnx(spec, str(checkpoint), f"{base}.onnx", args.batch_size, args.opset)[0]
    for command in builders(args, onnx_model, base):
        code = run_together({command[0]: [sys.executable, "-m", *command]})[command[0]]
        if code:
            sys.exit(code)


if __name__ == "__main__":
    sys.exit(exit_code(main))
