"""Say at which layer two computations of a network begin to differ, how, and which layers to keep in higher precision.

    python3 compare_layers.py models/fast_res50_256x192.onnx --against fp16 --input ./prep_data --output ./layers
    python3 compare_layers.py models/fast_res50_256x192.onnx models/of_another_tool.onnx --input ./prep_data
    python3 compare_layers.py models/fast_res50_256x192.onnx ./dumps_of_layers --input ./prep_data

The first is the reference. It is compared with another ONNX file, a folder of .npy files dumped on a card, or itself in
float16 or int8. Where a change of one operator gives what the other side gives, that change is named. Exit code 0: the
outputs agree; 1: they differ; 2: bad input.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import sys
from pathlib import Path
from typing import List, Optional

from comparison.gates import GATES, LIMITS, choose_limits
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least, parse
from contract.errors import DIFFERS, DONE, UserError
from pose.spec import load_spec

OUTPUT_LIMITS = ("cosine", "cosine_worst", "max_abs", "mismatched", "argmax")  # what one output can be judged by


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="limits: " + "; ".join(f"{name}: {LIMITS[name].meaning}" for name in OUTPUT_LIMITS),
        formatter_class=HelpFormatter)
    parser.add_argument("a", metavar="A.onnx", help="the reference")
    parser.add_argument("b", nargs="?", metavar="B", help="another .onnx, or a folder of .npy named after tensors")
    parser.add_argument("--against", choices=("fp16", "int8"), help="in place of B: A with float16 arithmetic "
                        "emulated, or quantised")
    parser.add_argument("--input", default="./prep_data", help="folder of bins")
    parser.add_argument("--people", type=at_least(1), default=8, help="how many crops, the first ones of the bins")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="config of the network")
    parser.add_argument("--gate", choices=list(GATES), help="limits of the output (default: --against, or fp16)")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE",
                        help="replace one limit, such as argmax=0.95")
    parser.add_argument("--atol", type=float, help="as in compare.py (default: the gate's)")
    parser.add_argument("--rtol", type=float, help="as in compare.py (default: the gate's)")
    parser.add_argument("--layer_limit", type=float, help="largest relative distance that a layer may add "
                        "(default: by the gate)")
    parser.add_argument("--growth", type=float, help="for dumps: how many times the distance of its input "
                        "a layer's may be (default: 5)")
    parser.add_argument("--calibrate", type=at_least(1), default=64, help="bins that --against int8 is calibrated on")
    parser.add_argument("--keep_budget", type=at_least(0), default=16, help="how many layers to keep in float32 at "
                        "most; 0 seeks none, and lists those where the error grows")
    parser.add_argument("--output", help="folder for the table, JSON, atc's keep_dtype.txt, the graphs made, and "
                        "reproduction/: the first layer alone, its inputs and both outputs")
    args = parse(parser, argv)
    if bool(args.b) == bool(args.against):
        parser.error("expected either B, an .onnx or a folder of .npy, or --against fp16 or int8")
    return args


def main() -> int:
    args = parse_args()
    from layers.comparison import Options, compare_dumps, compare_graphs, compare_setting, read_crops
    from layers.measure import GROWTH, LAYER_LIMITS  # these load onnx and onnxruntime
    from layers.report import format_layers, write_layers

    gate = args.gate or args.against or "fp16"
    options = Options(args.people, choose_limits(gate, args.limit, args.atol, args.rtol),
                      LAYER_LIMITS[gate] if args.layer_limit is None else args.layer_limit,
                      GROWTH if args.growth is None else args.growth, args.calibrate, args.keep_budget)
    people = max(args.people, args.calibrate) if args.against == "int8" else args.people
    crops = read_crops(Path(args.input), load_spec(args.cfg), people)
    if args.against:
        compared = compare_setting(args.a, args.against, crops, options)
    elif os.path.isdir(args.b):
        compared = compare_dumps(args.a, args.b, crops, options)
    elif args.b.endswith(".onnx"):
        compared = compare_graphs(args.a, args.b, crops, options)
    else:
        raise UserError(f"{args.b}: expected an .onnx file or a folder of .npy files")
    print(format_layers(compared))
    if args.output:
        write_layers(Path(args.output), compared, {**vars(args), "gate": gate, "limits": options.limits,
                                                   "layer_limit": options.layer_limit, "growth": options.growth})
    return DONE if compared.agree else DIFFERS


if __name__ == "__main__":
    sys.exit(exit_code(main))
