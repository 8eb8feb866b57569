"""Run a model over a folder of bins and write its dumps, as `python3 -m ais_bench` does, on devices without ais_bench.

    python3 infer.py --backend onnxruntime --model models/fast_res50_256x192_bs16.onnx --input ./prep_data \\
        --output ./results --output_dirname bs16

Reads, infers and writes at the same time, with a few batches in flight. After an interruption, run the same command
again: it continues.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from backends.rooms import ROOMS, add_flags, backend_of, given_flags, open_model, room
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least, folder_name, one_part, parse
from contract.backend import Backend, infer_rows
from contract.bins import BinReader, open_bins, share_of
from contract.dumps import DumpFolder, Span, describe_speed, summary_of
from contract.errors import UserError
from contract.files import remove_file
from contract.locks import reading
from contract.onnx_file import sha256_of_model
from contract.progress import Progress
from contract.spec import outputs_of
from contract.threads import in_order
from contract.workers import describe_exit, run_together

DEFAULT_BATCH = 16  # of a model that takes any


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--backend", choices=sorted(ROOMS), help="what runs the model (default: chosen by the suffix "
                        "of the model file)")
    parser.add_argument("--model", required=True, help="model file: .onnx, .pth, .engine, .om, ...")
    parser.add_argument("--input", default="./prep_data", help="folder of bins")
    parser.add_argument("--output", default="./results", help="folder for the dumps' folder and its summary")
    parser.add_argument("--output_dirname", required=True, type=folder_name, help="name of the dumps' folder, such as "
                        "bs16")
    parser.add_argument("--cfg", help="config of the model, or darknet's .cfg (default: the one in the manifest of the "
                        f"bins; without a manifest, and for checkpoints, {DEFAULT_CONFIG})")
    parser.add_argument("--batchsize", type=at_least(1), help="people per batch (default: the model's, or "
                        f"{DEFAULT_BATCH})")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, 0, or several, such as 0,1, with one process per device "
                        "(default: the backend's)")
    add_flags(parser)
    parser.add_argument("--part", type=one_part, default="0/1", help="K/N: only part K (counted from 0) of N equal "
                        "parts; for several machines that share --output")
    parser.add_argument("--replace", action="store_true", help="remove dumps that were made with other settings; "
                        "without it they are an error")
    args = parse(parser, argv)
    devices = (args.device or "").split(",")
    if len(set(devices)) < len(devices):
        parser.error(f"--device is {args.device}, expected each once")
    if os.path.realpath(args.input) == os.path.realpath(os.path.join(args.output, args.output_dirname)):
        parser.error(f"the folder for the dumps is {args.input}, the --input. Choose another --output_dirname")
    return args


def infer(backend: Backend, model: str, bins: BinReader, output: Path, settings: Dict[str, Any], batch: int,
          devices: List[str], part: str = "0/1", replace: bool = False) -> Dict[str, Any]:
    """Write a dump into `output` for each of `bins`, and a summary beside `output`, which is returned.

    Batches are always cut from the same places, so that a continued run, or one on several devices, gives the bytes of
    an uninterrupted one. `backend` serves one device; several get processes of their own.
    """
    with DumpFolder(output, bins, settings, replace, part=part) as dumps:
        groups = dumps.left(share_of(bins.groups(batch), *map(int, part.split("/"))))
        earlier = dumps.earlier_summary(groups)
        if earlier:
            return earlier
        if len(devices) > 1:
            backend.close()  # each process opens its own
            dumps.start(model, groups)
            return infer_on_devices(devices, dumps)
        return dumps.finish(batch, *infer_groups(backend, dumps, groups, batch, model, devices[0]))


def infer_on_devices(devices: List[str], dumps: DumpFolder) -> Dict[str, Any]:
    """This command again, in a process for each device and on a part of the batches; the summary of all.

    All processes write into one folder: each dump has its own name, and appears only when it is complete.
    """
    number, count = map(int, dumps.part.split("/"))
    parts = {device: f"{number * len(devices) + place}/{count * len(devices)}" for place, device in enumerate(devices)}
    arguments = [argument for argument in sys.argv if argument != "--replace"]  # it was done
    paths = [summary_of(dumps.folder, part) for part in parts.values()]
    for path in paths:
        remove_file(path)
    codes = run_together({device: [sys.executable, *arguments, "--device", device, "--part", part]
                          for device, part in parts.items()})
    failed = [f"the process of device {device} {describe_exit(code)}" for device, code in codes.items() if code]
    if failed:
        raise UserError(f"{'; '.join(failed)}. Complete dumps are kept in {dumps.folder}: run the same command again "
                        "for the rest")
    summary = dumps.merge(list(parts.values()))
    for path in paths:
        remove_file(path)
    return summary


def infer_groups(backend: Backend, dumps: DumpFolder, groups: List[range], batch: int, model: str,
                 device: str) -> Tuple[List[List[float]], List[Span]]:
    """Infer the groups of bins, while the next ones are read and the last ones written. Returns the times."""
    bins = dumps.bins

    def write(done: Tuple[range, np.ndarray]) -> int:
        return dumps.write(*done)

    if groups:
        rows = bins.read(groups[0])
        for _ in range(2 * backend.slots):  # warm-up of each: a second run captures what the first has set up
            infer_rows(backend, rows, batch)
    backend.times.clear()
    dumps.start(model, groups, device)
    total, start = sum(map(bins.people, groups)), time.time()
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(backend.slots) as inferring, \
            ThreadPoolExecutor(1) as writing, Progress(total=total, unit="person", desc="infer") as bar:
        heatmaps = infer_ahead(backend, bins, groups, batch, reading, inferring)
        for people in in_order(writing, write, zip(groups, heatmaps)):
            bar.update(people)
    return [backend.times], [(total, start, time.time())]


def infer_ahead(backend: Backend, bins: BinReader, groups: List[range], batch: int, reading: Executor,
                inferring: Executor) -> Iterator[np.ndarray]:
    """The output of each group, in order. A backend that lends its memory has bins read straight into it."""
    most, fill = getattr(backend, "rows_lent", 0), getattr(backend, "infer_from", None)
    if fill and all(bins.people(group) <= min(batch, most) for group in groups):
        return in_order(inferring, lambda group: fill(bins.people(group), lambda rows: bins.read(group, rows)), groups)
    batches = in_order(reading, bins.read, groups)
    return in_order(inferring, lambda rows: infer_rows(backend, rows, batch), batches)


def choose_batch(backend: Backend, batchsize: Optional[int], model: str) -> int:
    fixed = backend.input_shape[0]
    if fixed is not None and batchsize not in (None, fixed):
        raise UserError(f"{model}: takes batches of {fixed}, but --batchsize is {batchsize}. Leave --batchsize out")
    return fixed or batchsize or DEFAULT_BATCH


def main() -> None:
    args = parse_args()
    name = args.backend or backend_of(args.model)
    bins = open_bins(Path(args.input), args.cfg or (DEFAULT_CONFIG if room(name).needs_spec else None))
    devices = (args.device or "").split(",")
    flags = {**room(name).of_folders, **given_flags(args)}
    with reading(args.model), \
            closing(open_model(name, args.model, bins.spec, devices[0] or None, **flags)) as backend:
        batch = choose_batch(backend, args.batchsize, args.model)
        settings = {"backend": name, **backend.describe(), "model": os.path.basename(args.model),
                    "model_sha256": sha256_of_model(args.model), "batch": batch,
                    "processes": len(devices) * int(args.part.split("/")[1]),
                    "outputs": outputs_of(bins.spec, backend.output_shape[1:]),
                    **bins.origin()}
        summary = infer(backend, args.model, bins, Path(args.output) / args.output_dirname, settings, batch, devices,
                        args.part, args.replace)
    print(describe_speed(summary, batch, settings["outputs"]))


if __name__ == "__main__":
    sys.exit(exit_code(main))
