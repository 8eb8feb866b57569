"""Pack a kit for a server that has only its vendor's tools, and judge the results that come back.

    python3 pack.py --target Ascend310P3 --batch 1 16 --demo --output kit.tar     here, with all packages
    tar xf kit.tar && bash kit/run.sh                                             on the server
    python3 pack.py --judge kit_results.tar                                       here again

Exit code 0: packed, or all results agree with the CPU's; 1: one differs; 2: bad input.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import importlib
import os
import re
import sys
from typing import List, Optional

from contract.arguments import HelpFormatter
from contract.errors import DONE, UserError
from contract.files import make_folder
from contract.onnx_file import read_facts
from contract.pixels import DTYPES, FLOAT32, UINT8
from contract.version import VERSION
from jobs.arguments import BATCH, add_inputs, batches, check, check_files, complete, make_parser, path
from jobs.job import without_int8
from jobs.runner import ROOT, StageFailed, at_work
from kit import archive, packing
from kit.judge import TAKEN, judge
from kit.server import gigabytes


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False,
                                     formatter_class=HelpFormatter)
    what = parser.add_argument_group("what to do")
    what.add_argument("--target", nargs="+", metavar="TARGET", default=[], help="what the kit is for: Ascend310P3 or "
                      "another soc version, gpu, cpu")
    what.add_argument("--batch", action="append", nargs="+", metavar="N", help=f"batch sizes, such as 1 16 (default: "
                      f"{BATCH})")
    what.add_argument("--output", type=path, default=path("kit.tar"), metavar="FILE", help="the kit "
                      "(default: kit.tar)")
    what.add_argument("--split", type=size, metavar="SIZE", help="cut the kit into parts of this size, such as "
                      "700MB or 4GB, for sticks and mail; a file beside them says how to join them")
    what.add_argument("--dtype", choices=DTYPES, default=UINT8, help="of the bins: uint8 is a quarter of the bytes, "
                      "and the chip normalises; published figures are of float32")
    what.add_argument("--precision", nargs="+", metavar="P", help="for a gpu: fp32, fp16, int8; an Ascend chip: fp16, "
                      "int8; a cpu: fp32, int8; each is a run of its own, and int8 is made here (default: fp16; cpu: "
                      "fp32)")
    what.add_argument("--precision_mode", nargs="+", metavar="M", help="for an Ascend chip: of atc; each is a run of "
                      "its own (default: atc's own, force_fp16)")
    what.add_argument("--judge", nargs="+", type=path, metavar="TAR", help="score results that came back, compare them "
                      "with the CPU's, and print one table")
    add_inputs(parser.add_argument_group("inputs"))
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no lines of stages")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.set_defaults(**{**vars(make_parser().parse_args([])), "targets": [packing.CPU]})  # what a kit has not
    args = parser.parse_args(argv)
    try:
        if args.judge:
            check_judge(parser, args)
            return args
        check_usage(args)
    except UserError as error:
        parser.error(str(error))
    chosen = args.work
    complete(args)
    if chosen is None:
        args.work = args.work.with_name(f"kit_{args.work.name}")
    return args


def size(text: str) -> int:
    """Bytes, of a number with a unit."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(KB|MB|GB)", text.upper())
    if not match or not float(match.group(1)):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a size such as 700MB or 4GB")
    return max(1, int(float(match.group(1)) * {"KB": 10 ** 3, "MB": 10 ** 6, "GB": 10 ** 9}[match.group(2)]))


def check_judge(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    wrong = [f"--{name}" for name, value in vars(args).items()
             if name not in TAKEN and value != parser.get_default(name)]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: not with --judge, which takes --dataroot, --annotations and --work")


def check_usage(args: argparse.Namespace) -> None:
    if not args.target:
        raise UserError("expected --target, such as Ascend310P3, or --judge with results that came back")
    for target in args.target:
        if not packing.plan.kit_runners(target):
            raise UserError(f"--target {target}: a kit is for Ascend chips, gpu and cpu")
        if without_int8(target) != target:
            raise UserError(f"--target {target}: a kit is for {without_int8(target)}, and its precision an option: "
                            f"--target {without_int8(target)} --precision int8")
    args.target = list(dict.fromkeys(args.target))
    packing.check_precisions(args)
    args.uint8 = args.dtype == UINT8
    check(args)
    args.batch = batches(args)


def check_model(args: argparse.Namespace) -> None:
    """A model that is given runs unchanged, here too."""
    if args.model and args.model.suffix == ".onnx":
        takes = {"FLOAT": FLOAT32, "UINT8": UINT8}.get(read_facts(args.model).dtype)
        if takes != args.dtype:
            raise UserError(f"{args.model}: takes {takes or 'neither float32 nor uint8'}, but --dtype is {args.dtype}. "
                            f"Give --dtype {FLOAT32}, or a --checkpoint, which is exported for either")
    for target in args.target:
        if target.startswith("Ascend"):
            importlib.import_module("ascend.soc").check_soc_version(target)


def pack(args: argparse.Namespace) -> int:
    check_files(args, ROOT)
    os.chdir(ROOT)
    check_model(args)
    references = packing.reference_jobs(args)
    packed = packing.kit_jobs(args, references)
    with at_work(make_folder(args.work), args.quiet) as runner:
        packing.prepare(args, references, packed, runner)
    files = packing.contents(references, packed)
    print(f"{args.output}: {gigabytes(packing.sizes_of(files))} in {len(files)} files", flush=True)
    identity = packing.write_kit(files, args.output)
    packing.keep_record(identity, references[0])
    joined = f"join its parts as {archive.split(args.output, args.split)} says, then " if args.split else ""
    print(f"{args.output}: kit {identity[:12]} for {', '.join(args.target)}. On the server: {joined}tar xf "
          f"{args.output.name} && bash kit/run.sh")
    return DONE


def main() -> int:
    args = parse_args()
    try:
        return judge(args) if args.judge else pack(args)
    except StageFailed as failed:
        return failed.code


if __name__ == "__main__":
    sys.exit(exit_code(main))
