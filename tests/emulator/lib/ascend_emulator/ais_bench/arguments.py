"""The command line of both generations."""
from __future__ import annotations

import argparse
import re
from typing import Any, Callable, List, Optional

from .log import fail, logger
from .paths import legal_option

YES, NO = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
LARGEST_DEVICE = 255
NEW_NAMES = {"dymBatch": "dym_batch", "dymHW": "dym_hw", "dymDims": "dym_dims", "dymShape": "dym_shape",
             "outputSize": "output_size", "dymShape_range": "dym_shape_range"}  # of the options, as attributes


def boolean(text: str) -> bool:
    if text.lower() not in YES + NO:
        raise argparse.ArgumentTypeError("Boolean value expected true, 1, false, 0 with case insensitive.")
    return text.lower() in YES


def check_positive_integer(text: str) -> int:
    if int(text) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is an invalid positive int value")
    return int(text)


def check_nonnegative_integer(text: str) -> int:
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is an invalid nonnegative int value")
    return int(text)


def check_batchsize_valid(text: str) -> int:
    return check_positive_integer(text)


def check_device_range_valid(text: str) -> Any:
    """One number, or a list where there is a comma."""
    numbers = [int(part) for part in text.split(",")]
    for number in numbers:
        if not 0 <= number <= LARGEST_DEVICE:
            which = f"{number} of device:{text}" if "," in text else f"device:{number}"
            raise argparse.ArgumentTypeError(f"{which} is invalid. valid value range is [0, {LARGEST_DEVICE}]")
    return numbers if "," in text else numbers[0]


def new_device(text: str) -> Any:
    try:
        return check_device_range_valid(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"Argument npu-id invalid input value: {text}. Please provide a valid integer or a comma-separated list of "
            "integers.") from None


def characters(allowed: str, complaint: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if re.search(f"[^{allowed}]", text):
            raise argparse.ArgumentTypeError(complaint.format(text))
        return text

    return check


def path(purpose: str, name: str, ending: Optional[str] = None) -> Callable[[str], str]:
    """A path, or several with commas for --input."""

    def check(text: str) -> str:
        for part in (text.split(",") if name == "input" else [text]) if text else []:
            if not legal_option(part, purpose, ending):
                # the real package names an output whose string is illegal a weight
                wrong = "weight" if name == "output" and not _legal_string(part) else name
                raise argparse.ArgumentTypeError(f"{wrong} path:{part} is illegal. Please check.")
        return text

    return check


def _legal_string(text: str) -> bool:
    return re.search(r"[^_A-Za-z0-9/.-]", text) is None and len(text) <= 4096 and max(map(len, text.split("/"))) <= 255


def _common(add: Callable[..., Any], new: bool) -> None:
    """Up to --dymShape_range, which is where the older list ends."""
    dym = characters("_A-Za-z0-9,;:/.-", 'dym string "{}" is not a legal string') if new else str
    add("--model", "-m", required=True, type=path("read", "om", "om") if new else str, help="the om model")
    add("--input", "-i", type=path("read", "input") if new else str, help="files or folders")
    add("--output", "-o", type=path("write", "output") if new else str, help="folder of the results")
    add("--output_dirname", type=path("write", "output") if new else str, help="folder below --output")
    add("--outfmt", default="BIN", choices=["NPY", "BIN", "TXT"], help="format of the results")
    add("--loop", "-l", type=check_positive_integer, default=1, help="executions of each batch")
    add("--debug", type=boolean, default=False, help="more log lines")
    add("--device", "-d", type=new_device if new else check_device_range_valid, default=0, help="device or devices")
    if new:
        add("--dymBatch", dest="dym_batch", type=check_positive_integer, default=0, help="gear of the batch")
    else:
        add("--dymBatch", type=int, default=0, help="gear of the batch")

    def dynamic(name: str, kind: Any, *more: str) -> None:
        place = {"dest": NEW_NAMES[name]} if new else {}
        add(f"--{name}", *more, type=kind, help=f"{name} of a dynamic model", **place)

    dynamic("dymHW", dym)
    dynamic("dymDims", dym)
    dynamic("dymShape", dym, *(["--dym-shape"] if new else []))
    dynamic("outputSize", characters("0-9,;", 'number_list "{}" is not a legal list') if new else str)
    add("--auto_set_dymshape_mode", type=boolean, default=False, help="shape of each .npy")
    add("--auto_set_dymdims_mode", type=boolean, default=False, help="dims of each .npy")
    add("--batchsize", type=check_batchsize_valid, help="batch in the throughput")
    add("--pure_data_type", default="zero", choices=["zero", "random"], help="data where there is no --input")
    add("--profiler", type=boolean, default=False, help="profile")
    add("--dump", type=boolean, default=False, help="dump operators")
    add("--acl_json_path", type=path("read", "acl json", "json") if new else str, help="acl.json")
    add("--output_batchsize_axis", type=check_nonnegative_integer, default=0, help="batch axis of outputs")
    add("--run_mode", default="array", choices=["array", "files", "tensor", "full"], help="how data is fed")
    add("--display_all_summary", type=boolean, default=False, help="times of the copies too")
    add("--warmup_count", *(["--warmup-count"] if new else []), type=check_nonnegative_integer, default=1,
        help="executions before the timed ones")
    dynamic("dymShape_range", characters(r"_A-Za-z0-9,;:/.\-~", 'dym range string "{}" is not a legal string')
            if new else str)


def _only_new(add: Callable[..., Any]) -> None:
    add("--aipp_config", type=path("read", "aipp config", "config"), help="dynamic AIPP")
    add("--energy_consumption", type=boolean, default=False, help="measure the power")
    add("--npu_id", type=check_nonnegative_integer, default=0, help="card whose power is measured")
    add("--backend", choices=["trtexec"], help="another backend")
    add("--perf", type=boolean, default=False, help="measure the other backend")
    add("--pipeline", type=boolean, default=False, help="read, run and write at once")
    add("--profiler_rename", type=boolean, default=True, help="rename the profile")
    add("--dump_npy", type=boolean, default=False, help="convert dumps")
    add("--divide_input", type=boolean, default=False, help="divide the input over the devices")
    add("--threads", type=check_positive_integer, default=1, help="threads of the pipeline")


def parse(generation: str, argv: Optional[List[str]] = None) -> argparse.Namespace:
    """One set of names for both generations."""
    parser = argparse.ArgumentParser(prog="__main__.py")
    _common(parser.add_argument, generation == "new")
    if generation == "new":
        _only_new(parser.add_argument)
        args = parser.parse_args(argv)
        args.new = True
        return args
    args = parser.parse_args(argv)
    for old, name in NEW_NAMES.items():
        setattr(args, name, getattr(args, old))
    args.new = args.pipeline = args.divide_input = False
    args.threads = 1
    return args


def check_rules(args: argparse.Namespace) -> None:
    """What the options must not be together."""
    if args.profiler and args.dump:
        raise fail("parameter --profiler cannot be true at the same time as parameter --dump, please check them!\n",
                   "error bad parameters --profiler and --dump")
    if args.new and (args.output_dirname or "").startswith("/"):
        raise ValueError("--output_dirname do not support abs path!")
    if (args.profiler or args.dump) and args.output is None:
        raise fail("when dump or profiler, miss output path, please check them!", "miss output parameter!")
    if args.profiler and args.warmup_count and args.input is not None:
        logger.info("profiler mode with input change warmup_count to 0")
        args.warmup_count = 0
    if args.output is None and args.output_dirname is not None:
        raise fail("parameter --output_dirname cann't be used alone. Please use it together with the parameter "
                   "--output!\n", "error bad parameters --output_dirname")
    if args.threads > 1 and not args.pipeline:
        logger.info("need to set --pipeline when setting threads number to be more than one.")
        args.threads = 1
