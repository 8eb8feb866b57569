"""Build the TensorRT engine of an ONNX file for this machine's GPU.

    python3 -m backends.tensorrt.build models/fast_res50_256x192_bs16.onnx --precision fp16
    python3 -m backends.tensorrt.build models/fast_res50_256x192.onnx --profile 1,16,64

The engine appears when it is whole and TensorRT can read it, and NAME.engine.json says how it was made; one that was
made in the same way is kept.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from backends.tensorrt import bindings, cuda, engine_record
from backends.tensorrt.builder import Builder
from backends.tensorrt.calibration_table import ALGORITHMS, Version, version_of
from backends.tensorrt.calibrator import Calibration, open_calibrator, plan_calibration
from backends.tensorrt.options import ROOM
from backends.tensorrt.precision import (
    PRECISIONS,
    Abilities,
    Recipe,
    abilities_of,
    abilities_of_version,
    autocast,
    check_autocast,
    choose_recipe,
)
from backends.tensorrt.source import Sizes, Source, choose_sizes, describe_sizes, read_source
from backends.tensorrt.trtexec_build import (
    build_command,
    check_trtexec,
    describe_machine,
    print_commands,
    run_trtexec,
)
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, parse
from contract.errors import UserError
from contract.export import DECODING_NODES
from contract.files import make_folder, remove_file, sha256_of_file, write_file
from contract.locks import hold, reading
from contract.onnx_file import sha256_of_model
from contract.records import protect
from contract.workers import as_typed

DESCRIPTIVE = ("onnx", "cuda_driver", "cuda_runtime", "command")  # of the record: they may change without a new build
LEVELS = range(6)  # of builder_optimization_level


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.tensorrt.build", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("model", help=".onnx")
    parser.add_argument("--output", help="the .engine to write (default: named after model, batch and precision)")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--batch", type=int, help="people per batch (default: the model's)")
    sizes.add_argument("--profile", metavar="MIN,OPT,MAX", help="an engine for any batch size from MIN to MAX, tuned "
                       "for OPT, such as 1,16,64")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--tf32", action="store_true", help="let float32 layers use TF32, which rounds their factors "
                        "to 10 bits")
    parser.add_argument("--calibration", metavar="FOLDER", help="bins to calibrate int8 with, up to TensorRT 10")
    parser.add_argument("--calibration_table", metavar="FILE", help="CalibrationTable to use or to write (default: "
                        "named after the engine)")
    parser.add_argument("--calibration_method", choices=tuple(ALGORITHMS), default="entropy")
    parser.add_argument("--calibration_people", type=int, default=512, help="how many crops, spread evenly over the "
                        "bins")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="config of the bins")
    parser.add_argument("--device", type=int, default=0, help="GPU that builds and runs the engine")
    parser.add_argument("--timing_cache", metavar="FILE", help="kernel timings to use and to extend")
    parser.add_argument("--workspace", type=int, metavar="MIB", help="scratch memory for kernels (default: all)")
    parser.add_argument("--optimization_level", type=int, choices=LEVELS, help="default: TensorRT's own, 3")
    parser.add_argument("--trtexec", choices=("print", "run"), help="print the equivalent trtexec command, or build "
                        "with trtexec, which needs no Python package")
    return parse(parser, argv)


def default_output(model: Path, source: Source, sizes: Sizes, precision: str) -> Path:
    return model.with_name(f"{model.stem}{describe_sizes(source, sizes)}_{precision}.engine")


class Here(NamedTuple):
    """What builds: TensorRT's Python package, None where trtexec is all there is of it."""

    tensorrt: Any
    version: Version
    can: Abilities
    machine: Dict[str, Any]


def look_around(args: argparse.Namespace) -> Here:
    if args.trtexec and ROOM.missing_packages():
        machine = describe_machine(args.device)
        version = version_of(machine["tensorrt"])
        return Here(None, version, abilities_of_version(version), machine)
    cuda.open_device(args.device)  # before anything of TensorRT: without CUDA it may end the process
    tensorrt = bindings.load()
    return Here(tensorrt, version_of(tensorrt.__version__), abilities_of(tensorrt),
                engine_record.describe_machine(tensorrt, args.device))


def write_engine(model: Path, output: Path, source: Source, sizes: Sizes, args: argparse.Namespace) -> None:
    """Write `output` and its record, or keep them if they were made in the same way."""
    here, digest = look_around(args), sha256_of_model(model)
    recipe = choose_recipe(model, source, args.precision, here.can)
    calibration = plan_calibration(args, source, sizes[1], output, here.version, digest) if recipe.calibrate else None
    table = calibration.table if calibration else None
    facts = {**here.machine, "onnx": model.name, "onnx_sha256": digest, "input": source.name, "profile": list(sizes),
             **describe_options(recipe, args)}
    if is_kept(output, {**facts, "calibration": calibration and calibration.describe()}):
        print(f"{output}: kept, of the same ONNX, options, TensorRT and GPU")
        return
    if recipe.convert:
        check_autocast(model)
    if args.trtexec:
        check_trtexec(here.version, table)
    log = f"{output}.log"  # of TensorRT's warnings
    for path in (output, engine_record.path_of(output), log):
        remove_file(path)
    scratch, started = output.with_suffix(".build"), time.monotonic()
    make_folder(scratch if args.trtexec or recipe.convert else output.parent)
    print(f"{output}: TensorRT {facts['tensorrt']} builds it for {facts['gpu']}, which takes minutes", flush=True)
    onnx = autocast(model, scratch, source.one_pass) if recipe.convert else model
    if args.trtexec:
        command = build_command(here.version, onnx, scratch / output.name, source, sizes, recipe, table, args)
        run_trtexec(command, scratch, output, sizes[1])
    else:
        logger = bindings.make_logger(here.tensorrt)
        write_file(output, build_engine(here.tensorrt, logger, onnx, source, sizes, recipe, calibration, args))
        bindings.report(logger, log)
    engine_record.write(output, {**facts, "calibration": calibration and calibration.describe(),
                           "build_seconds": round(time.monotonic() - started, 1)})
    print(f"{output}: written")


def describe_options(recipe: Recipe, args: argparse.Namespace) -> Dict[str, Any]:
    """The part of the engine's record that was chosen with options."""
    return {"precision": args.precision, "tf32": args.tf32, "builder_flags": list(recipe.flags),
            "strongly_typed": recipe.typed, "autocast": recipe.convert, "workspace": args.workspace,
            "optimization_level": args.optimization_level,
            "command": as_typed(["python3", "-m", "backends.tensorrt.build", *sys.argv[1:]])}


def build_engine(tensorrt: Any, logger: Any, model: Path, source: Source, sizes: Sizes, recipe: Recipe,
                 calibration: Optional[Calibration], args: argparse.Namespace) -> Any:
    """The engine, after TensorRT has read it once as a check."""
    builder = Builder(tensorrt, logger, recipe)
    builder.parse(model)
    if source.one_pass and recipe.flags:
        builder.keep_float32(DECODING_NODES)
    builder.set_options(args.tf32, args.workspace, args.optimization_level)
    profile = builder.set_sizes(source, sizes) if source.shape[0] is None else None
    if args.timing_cache:
        builder.use_timing_cache(Path(args.timing_cache))
    with contextlib.ExitStack() as opened:
        if calibration:
            calibrator = opened.enter_context(open_calibrator(tensorrt, calibration, source))
            builder.set_calibrator(calibrator, profile)
        engine = builder.build()
    builder.check(engine)
    if args.timing_cache:
        builder.save_timing_cache(Path(args.timing_cache))
    return engine


def is_kept(output: Path, facts: Dict[str, Any]) -> bool:
    try:
        earlier = engine_record.read(output) if output.exists() else {}
    except UserError:  # a damaged record is written anew, with its engine
        return False
    protect(output, earlier, facts)
    return bool(earlier) and earlier["engine_sha256"] == sha256_of_file(output) and \
        all(earlier.get(key) == facts[key] for key in facts if key not in DESCRIPTIVE)


def main() -> None:
    args = parse_args()
    model = Path(args.model)
    source = read_source(model)
    sizes = choose_sizes(model, source, args.batch, args.profile)
    output = Path(args.output) if args.output else default_output(model, source, sizes, args.precision)
    if args.trtexec == "print":
        print_commands(model, output, source, sizes, args)
        return
    make_folder(output.parent)
    with hold(output), reading(model):
        write_engine(model, output, source, sizes, args)


if __name__ == "__main__":
    sys.exit(exit_code(main))
