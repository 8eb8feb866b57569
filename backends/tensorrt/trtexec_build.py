"""trtexec as the builder: its command line by version, printed or run.

It is given every switch that decides what is built and timed, because defaults differ between releases.
"""
from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional

from backends.tensorrt import bindings
from backends.tensorrt.calibration_table import Version, check_table, dotted, version_of
from backends.tensorrt.calibrator import table_of
from backends.tensorrt.precision import Recipe, abilities_of_version, autocast_command, choose_recipe
from backends.tensorrt.source import Sizes, Source
from backends.tensorrt.trtexec import COLUMNS, check_log, read_log, table_row
from contract.errors import UserError
from contract.files import FILE_MODE, remove_file, write_file
from contract.tables import format_table
from contract.workers import as_typed, run_together

OLDEST = (8, 6, 0)  # of the flags below
DEFAULTS_TURNED = (11, 0, 0)  # from here on CUDA graph and spinning are on, and copies are off, unless asked otherwise
WARM_UP_MS, DURATION_S = 500, 10
METHOD = "entropy"  # of the only tables that trtexec takes
UNKNOWN = "unknown"
EMULATED = "emulator of the tests"  # says the emulated one, above whatever it prints


def build_command(version: Version, model: Path, engine: Path, source: Source, sizes: Sizes, recipe: Recipe,
                  table: Optional[Path], args: argparse.Namespace) -> List[str]:
    """Builds the engine that backends.tensorrt.build builds, then times it, with the same switches in every release."""
    if version < OLDEST:
        raise UserError(f"trtexec belongs to TensorRT {dotted(version)}, expected {dotted(OLDEST)} or newer")
    if source.one_pass and recipe.flags:
        raise UserError(f"{model}: is a one-pass model, whose decoding layers must stay float32, and trtexec cannot be "
                        "told that. Build without --trtexec")
    command = ["trtexec", f"--onnx={model}", f"--saveEngine={engine}"]
    command += [f"--device={args.device}"] if args.device else []
    if source.shape[0] is None:
        shapes = [f"{source.name}:{'x'.join(map(str, (size, *source.shape[1:])))}" for size in sizes]
        kinds = ("min", "opt", "max")
        command += [f"--{kind}Shapes={shape}" for kind, shape in zip(kinds, shapes)]
        command += [f"--{kind}ShapesCalib={shapes[1]}" for kind in kinds if recipe.calibrate]
    command += [f"--{flag.lower()}" for flag in recipe.flags]
    if recipe.typed and version < DEFAULTS_TURNED:
        command.append("--stronglyTyped")
    options = {"calib": table if recipe.calibrate else None, "timingCacheFile": args.timing_cache,
               "memPoolSize": args.workspace and f"workspace:{args.workspace}",
               "builderOptimizationLevel": args.optimization_level}
    command += [f"--{name}={value}" for name, value in options.items() if value is not None]
    command += [] if args.tf32 else ["--noTF32"]
    command += ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"] if version < DEFAULTS_TURNED else []
    return command + [f"--warmUp={WARM_UP_MS}", f"--duration={DURATION_S}"]


def own_version() -> Version:
    """Of the trtexec on PATH, which says it above whatever it prints."""
    return version_in(run_and_keep(["trtexec", "--help"], show=False))


def version_in(text: str) -> Version:
    version = read_log(text).version
    if not version:
        raise UserError("trtexec --help does not say its version. Is the trtexec on PATH TensorRT's?")
    return version


def describe_machine(device: int) -> Dict[str, Any]:
    """As that of backends.tensorrt.engine_record, where trtexec is all there is of TensorRT."""
    text = run_and_keep(["trtexec", "--help"], show=False)
    return {"tensorrt": dotted(version_in(text)), "gpu": name_of_gpu(device), "compute_capability": UNKNOWN,
            "emulated": EMULATED in text}


def name_of_gpu(device: int) -> str:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"nvidia-smi -L, which names the GPUs, cannot be run ({error}). Is NVIDIA's driver "
                        "installed?") from None
    text = listed.stdout.decode(errors="replace")
    found = re.search(rf"^GPU {device}: (.*?)(?: \(UUID.*)?$", text, re.MULTILINE)
    if not found:
        raise UserError(f"nvidia-smi -L lists no GPU {device} ({' '.join(text.split())[:200]})")
    return found.group(1)


def run_and_keep(command: List[str], show: bool = True) -> str:
    """What a run of trtexec prints; with `show`, the user sees it as well."""
    output: List[str] = []

    def listen(name: str, text: str) -> None:
        output.append(text)
        if show:
            print(text, end="", flush=True)

    try:
        run_together({"trtexec": command}, listen)
    except FileNotFoundError:
        raise UserError("trtexec is not on PATH. It comes with TensorRT's archive and packages, often in "
                        "/usr/src/tensorrt/bin, and not with pip") from None
    return "".join(output)


def print_commands(model: Path, output: Path, source: Source, sizes: Sizes, args: argparse.Namespace) -> None:
    """Of the trtexec on PATH, else of the one that belongs to the Python package. Needs no GPU."""
    version = own_version() if shutil.which("trtexec") else version_of(bindings.load().__version__)
    recipe = choose_recipe(model, source, args.precision, abilities_of_version(version))
    table = table_of(args, output) if recipe.calibrate else None
    if table:
        check_existing(table, version)
    if recipe.convert:
        half = model.with_suffix(".fp16.onnx")
        print(as_typed(autocast_command(model, half, source.one_pass)))
        model = half
    print(as_typed(build_command(version, model, output, source, sizes, recipe, table, args)))


def check_trtexec(version: Version, table: Optional[Path]) -> None:
    """Refuse a trtexec whose engines the Python package would not load, and a table that it would not take."""
    own = own_version()
    if own != version:
        raise UserError(f"trtexec on PATH belongs to TensorRT {dotted(own)}, but the Python package tensorrt is "
                        f"{dotted(version)} and would not load its engine. Put the matching trtexec on PATH")
    if table:
        check_existing(table, version)


def check_existing(table: Path, version: Version) -> None:
    """Refuse a table that is missing, or that trtexec would not take: it would silently calibrate on noise."""
    if not table.exists():
        raise UserError(f"{table}: no such CalibrationTable, and trtexec does not take bins. Build once without "
                        "--trtexec, which makes it")
    check_table(table, version, METHOD)


def run_trtexec(command: List[str], scratch: Path, output: Path, batch: int) -> None:
    """Run a command that writes its engine into `scratch`, where its log stays, and print the row of its times."""
    engine, log_file = scratch / output.name, scratch / "trtexec.log"
    remove_file(engine)
    print(as_typed(command), flush=True)
    text = run_and_keep(command)
    write_file(log_file, text.encode())
    log = read_log(text)
    check_log(log, log_file)
    if not engine.exists():
        raise UserError(f"trtexec says that it passed, but left no {engine}. Read {log_file}")
    os.chmod(engine, FILE_MODE)
    os.replace(engine, output)
    print(format_table(COLUMNS, [table_row(output.name, log, batch)]))
