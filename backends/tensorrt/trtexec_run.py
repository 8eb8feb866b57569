"""Run an engine over a folder of bins with trtexec alone, where Python has neither tensorrt nor cuda-python.

    python3 -m backends.tensorrt.trtexec_run --model models/fast_res50_256x192_bs16_fp16.engine --input ./prep_data \\
        --output ./results --output_dirname gpu_bs16

Leaves what infer.py leaves: dumps, settings.json and a summary. Each batch is a process of trtexec, which loads the
engine, runs the batch ITERATIONS times and prints how long the GPU computed. Values have the six digits that trtexec
writes. Run again after a failure, it continues.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from backends.tensorrt import engine_record
from backends.tensorrt.calibration_table import Version, version_of
from backends.tensorrt.cuda import parse_device
from backends.tensorrt.options import ROOM
from backends.tensorrt.trtexec import check_log, read_log, read_output
from backends.tensorrt.trtexec_build import DEFAULTS_TURNED, describe_machine, run_and_keep
from contract.arguments import HelpFormatter, at_least, folder_name, parse
from contract.backend import pad_rows
from contract.bins import open_bins
from contract.dumps import DumpFolder, describe_speed
from contract.errors import UserError
from contract.files import make_folder, remove_file, sha256_of_file, write_file
from contract.locks import reading
from contract.progress import Progress
from contract.spec import outputs_of
from contract.workers import as_typed

WARM_UP_MS, ITERATIONS = 200, 10


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.tensorrt.trtexec_run",
                                     description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--model", required=True, help=".engine that backends.tensorrt.build has built here")
    parser.add_argument("--input", default="./prep_data", help="folder of bins")
    parser.add_argument("--output", default="./results", help="folder for the dumps' folder and its summary")
    parser.add_argument("--output_dirname", required=True, type=folder_name, help="name of the dumps' folder, such as "
                        "gpu_bs16")
    parser.add_argument("--cfg", help="config of the model (default: the one in the manifest of the bins)")
    parser.add_argument("--batchsize", type=at_least(1), help="people per batch (default: the engine's)")
    parser.add_argument("--device", default="0", help="number of the GPU")
    parser.add_argument("--replace", action="store_true", help="remove dumps that were made with other settings; "
                        "without it they are an error")
    return parse(parser, argv)


class Trtexec:
    """An engine of one batch size, and trtexec, which runs it with files in `scratch`."""

    def __init__(self, engine: str, device: int, scratch: Path):
        if not os.path.isfile(engine):
            raise UserError(f"{engine}: no such model file")
        self.engine, self.device, self.scratch = engine, device, scratch
        self.machine, self.facts = describe_machine(device), engine_record.read(engine)
        self.version = version_of(self.machine["tensorrt"])
        if "input" not in self.facts:
            raise UserError(f"{engine}: no {engine_record.path_of(engine)}, or one that does not name the input. Build "
                            f"the engine again: {engine_record.BUILD} --trtexec run")
        known = {"compute_capability": self.facts["compute_capability"]}  # nothing here tells it
        engine_record.check(engine, self.facts, {**self.machine, **known})
        self.batch = self.facts["profile"][1]

    def infer(self, rows: np.ndarray) -> Tuple[np.ndarray, float]:
        """The output of `rows`, at most a batch, and the milliseconds that the GPU computed a batch of them."""
        files = {name: self.scratch / name for name in ("input.bin", "output.json", "trtexec.log")}
        full = pad_rows(rows, self.batch)
        write_file(files["input.bin"], full)
        remove_file(files["output.json"])
        command = infer_command(self.version, self.engine, self.facts["input"], full.shape, self.device,
                                files["input.bin"], files["output.json"])
        text = run_and_keep(command, show=False)
        write_file(files["trtexec.log"], f"{as_typed(command)}\n{text}".encode())
        log = read_log(text)
        check_log(log, files["trtexec.log"])
        if not files["output.json"].exists() or "GPU Compute Time" not in log.times:
            raise UserError(f"{files['trtexec.log']}: trtexec says that it passed, but gives no outputs or no times")
        output = read_output(files["output.json"])
        if len(output) != self.batch:
            raise UserError(f"{self.engine}: gives {len(output)} rows of a batch of {self.batch}")
        return output[:len(rows)], log.times["GPU Compute Time"]["median"]

    def describe(self) -> Dict[str, Any]:
        return {"device": self.machine["gpu"], **ROOM.precision(self.facts.get("precision")),
                "tf32": self.facts.get("tf32"), "tensorrt": self.machine["tensorrt"],
                "emulated": self.machine["emulated"]}


def infer_command(version: Version, engine: str, name: str, shape: Tuple[int, ...], device: int, source: Path,
                  output: Path) -> List[str]:
    """Copies are asked for: without them the engine would read what is in its memory by chance."""
    switches = ["--useCudaGraph", "--useSpinWait"] if version < DEFAULTS_TURNED else ["--includeDataTransfers"]
    return ["trtexec", f"--loadEngine={engine}", *([f"--device={device}"] if device else []),
            f"--shapes={name}:{'x'.join(map(str, shape))}", f"--loadInputs={name}:{source}", f"--exportOutput={output}",
            *switches, f"--warmUp={WARM_UP_MS}", "--duration=0", f"--iterations={ITERATIONS}"]


def infer(trtexec: Trtexec, dumps: DumpFolder) -> Dict[str, Any]:
    """Fill `dumps`, and write the summary beside it, which is returned."""
    bins, times = dumps.bins, []
    groups = dumps.left(bins.groups(trtexec.batch))
    earlier = dumps.earlier_summary(groups)
    if earlier:
        return earlier
    dumps.start(trtexec.engine, groups, str(trtexec.device))
    total, started = sum(map(bins.people, groups)), time.time()
    with Progress(total=total, unit="person", desc="trtexec") as bar:
        for group in groups:
            output, milliseconds = trtexec.infer(bins.read(group))
            times.append(milliseconds)
            bar.update(dumps.write(group, output))
    return dumps.finish(trtexec.batch, [times], [(total, started, time.time())])


def main() -> None:
    args = parse_args()
    bins, output = open_bins(Path(args.input), args.cfg), Path(args.output) / args.output_dirname
    scratch = make_folder(Path(f"{output}.trtexec"))
    with reading(args.model):
        trtexec = Trtexec(args.model, parse_device(args.device), scratch)
        if args.batchsize not in (None, trtexec.batch) or max(bins.rows) > trtexec.batch:
            raise UserError(f"{args.model}: takes batches of {trtexec.batch}, but --batchsize is {args.batchsize}, and "
                            f"bins hold {max(bins.rows)} people")
        shape = trtexec.infer(bins.read(range(1)))[0].shape[1:]  # nothing else tells it
        settings = {"backend": "trtexec", **trtexec.describe(), "model": os.path.basename(args.model),
                    "model_sha256": sha256_of_file(args.model), "batch": trtexec.batch, "processes": 1,
                    "outputs": outputs_of(bins.spec, shape), **bins.origin()}
        with DumpFolder(output, bins, settings, args.replace) as dumps:
            summary = infer(trtexec, dumps)
    shutil.rmtree(scratch)
    print(describe_speed(summary, trtexec.batch, settings["outputs"]))


if __name__ == "__main__":
    sys.exit(exit_code(main))
