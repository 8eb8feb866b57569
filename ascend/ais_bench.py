"""Run ais_bench over a folder of bins. Check the inputs first, watch the run, and verify its dumps at the end.

    python3 -m ascend.ais_bench --model models/fast_res50_256x192_bs16.om --input ./prep_data --output ./results \\
        --output_dirname bs16 --batchsize 16

Leaves what infer.py leaves: dumps, settings.json and a summary. With several devices each has an ais_bench and a folder
of its own, OUTPUT/NAME.parts, from which the dumps are moved. Run again after a failure, it continues.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import re
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Optional

from ascend.ais_bench_processes import Share, read_times, run_shares, share_dumps, share_out
from ascend.backend import Backend
from ascend.generations import NEW, check_paths, find_generation
from ascend.pyacl import call
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least, folder_name, parse
from contract.backend import check_backend
from contract.bins import BinReader, open_bins
from contract.dumps import SETTINGS, DumpFolder, describe_speed, dump_name, read_settings
from contract.errors import UserError
from contract.files import make_folder, sha256_of_file, write_json
from contract.locks import reading
from contract.manifest import settings_difference
from contract.spec import outputs_of

READ_BY_AIS_BENCH = (".bin", ".BIN", ".npy", ".NPY")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m ascend.ais_bench", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--model", required=True, help=".om")
    parser.add_argument("--input", default="./prep_data", help="folder of bins")
    parser.add_argument("--output", default="./results", help="folder for the dumps' folder and its summary")
    parser.add_argument("--output_dirname", required=True, type=folder_name, help="name of the dumps' folder, such as "
                        "bs16")
    parser.add_argument("--cfg", help="config of the model (default: the one in the manifest of the bins; "
                        f"without a manifest {DEFAULT_CONFIG})")
    parser.add_argument("--batchsize", type=at_least(1), help="people per batch (default: the model's)")
    parser.add_argument("--device", default="0", help="device id, or several that share the batches, such as 0,1,2,3")
    parser.add_argument("--replace", action="store_true", help="remove dumps that were made with other settings; "
                        "without it they are an error")
    args = parse(parser, argv)
    if not re.fullmatch(r"\d+(,\d+)*", args.device) or len(set(args.device.split(","))) < args.device.count(",") + 1:
        parser.error(f"--device is {args.device}, expected different ids, such as 0,1")
    return args


def choose_batch(om: Backend, batchsize: Optional[int], model: str) -> int:
    if om.gears and batchsize not in om.gears:
        raise UserError(f"{model}: has the gears {om.gears}, but --batchsize is {batchsize}. Give one of them")
    if not om.gears and batchsize not in (None, om.input_shape[0]):
        raise UserError(f"{model}: takes batches of {om.input_shape[0]}, but --batchsize is {batchsize}. "
                        f"Build it with python3 -m ascend.atc --batch {batchsize}, or leave --batchsize out")
    batch = batchsize or om.input_shape[0]
    assert batch is not None  # a model without gears has a fixed batch
    return batch


def check_bins(bins: BinReader, om: Backend, batch: int) -> None:
    """Refuse inputs that ais_bench would silently get wrong, or that it would refuse only after loading the model."""
    known = set(bins.names)
    strange = sorted(entry.name for entry in os.scandir(bins.folder)
                     if entry.name.endswith(READ_BY_AIS_BENCH) and not (entry.name in known and entry.is_file()))
    if strange:
        raise UserError(f"{bins.folder / strange[0]}: ais_bench would read it, but it is no bin. Move it "
                        "to another folder")
    dotted = [name for name in bins.names if name.count(".") > 1]
    if dotted:
        raise UserError(f"{bins.folder / dotted[0]}: ais_bench names a dump after what comes before the first dot, so "
                        "names with two collide. Rename it, or use --runner acl")
    rows = set(bins.rows)
    if len(rows) > 1 or batch % max(rows):
        raise UserError(f"{bins.folder}: bins of {', '.join(map(str, sorted(rows)))} people do not fill batches of "
                        f"{batch}. Run preprocess.py with --batch 1")
    bin_bytes = os.path.getsize(bins.folder / bins.names[0])
    batch_bytes = om.input.row_bytes() * batch
    if bin_bytes * batch != batch_bytes * max(rows):
        raise UserError(f"{bins.folder / bins.names[0]}: {bin_bytes} bytes, but the model takes {batch_bytes} for a "
                        f"batch of {batch} ({om.input.dtype.name}). Build the .om for these bins with "
                        "python3 -m ascend.atc")


def check_places(generation: str, model: str, bins: BinReader, output: Path) -> None:
    """The path rules of each generation."""
    named = (model, bins.folder, output.parent, output)
    if "," in os.fspath(bins.folder):
        raise UserError(f"{bins.folder}: ais_bench reads a comma as the end of a path. Rename the folder, or use "
                        "--runner acl")
    if generation == NEW:
        check_paths(path for path in named if os.path.lexists(path))
        check_paths(entry.path for entry in os.scandir(bins.folder))


def check_devices(devices: List[str]) -> None:
    count, largest = call("rt.get_device_count"), max(map(int, devices))
    if largest >= count:
        raise UserError(f"--device {largest}: this machine has {count}, numbered from 0. npu-smi uses "
                        "different NPU ids: python3 -m ascend.doctor shows both")


def infer(model: str, dumps: DumpFolder, om: Backend, batch: int, devices: List[str]) -> Dict[str, Any]:
    """Fill `dumps`, and write the summary beside it, which is returned.

    One device that starts from nothing is given the folders themselves; a rest, and several devices, folders of their
    own.
    """
    bins, output = dumps.bins, dumps.folder
    parts = Path(f"{output}.parts")
    earlier = read_settings(parts)
    if earlier and not settings_difference(dumps.settings, earlier):  # a run was killed
        for folder in sorted(parts.glob(share_dumps("*"))):
            dumps.collect(folder)
    shutil.rmtree(parts, ignore_errors=True)
    groups = dumps.left(bins.groups(batch))
    summary = dumps.earlier_summary(groups)
    if summary:
        return summary
    if dumps.whole() or len(devices) > 1:
        write_json(make_folder(parts) / SETTINGS, dumps.settings)
        shares = share_out(bins, groups, devices, parts)
    else:
        shares = [Share(devices[0], bins.folder, list(range(len(bins))), output.parent, output.name)]
    dumps.start(model, groups)
    summary = run_and_check(model, shares, dumps, batch, bool(om.gears))
    shutil.rmtree(parts, ignore_errors=True)
    return summary


def run_and_check(model: str, shares: List[Share], dumps: DumpFolder, batch: int, gears: bool) -> Dict[str, Any]:
    """Run the shares, bring their dumps together and verify them; the summary of all."""
    bins, output = dumps.bins, dumps.folder
    try:
        watches = run_shares(model, shares, bins, batch, gears)
    finally:
        for share in shares:
            if share.dumps != output:
                dumps.collect(share.dumps)
    times = [read_times(share, watches[share.device]) for share in shares]
    broken = set(range(len(bins))) - dumps.whole()
    if broken:
        name = output / dump_name(bins.names[min(broken)])
        raise UserError(f"ais_bench succeeded, but {len(broken)} of {len(bins)} dumps are missing or not of "
                        f"{dumps.row_bytes} bytes per person ({name}). Run the same command again")
    spans = [(sum(bins.rows[number] for number in share.numbers), watches[share.device].started,
              watches[share.device].ended) for share in shares]
    return dumps.finish(batch, times, spans)


def main() -> None:
    args = parse_args()
    bins, devices = open_bins(Path(args.input), args.cfg), args.device.split(",")
    output = Path(args.output) / args.output_dirname
    generation = find_generation()
    with reading(args.model), closing(Backend(args.model, devices[0])) as om:
        check_backend(om, args.model, bins.spec)
        check_devices(devices)
        batch = choose_batch(om, args.batchsize, args.model)
        check_bins(bins, om, batch)
        check_places(generation, args.model, bins, output)
        settings = {"backend": "ais_bench", "generation": generation, **om.describe(),
                    "model": os.path.basename(args.model), "model_sha256": sha256_of_file(args.model), "batch": batch,
                    "processes": len(devices), "outputs": outputs_of(bins.spec, om.output_shape[1:]),
                    **bins.origin()}
        dtype = om.output.dtype
    with reading(args.model), DumpFolder(output, bins, settings, args.replace, dtype) as dumps:
        summary = infer(args.model, dumps, om, batch, devices)
    print(describe_speed(summary, batch, settings["outputs"]))


if __name__ == "__main__":
    sys.exit(exit_code(main))
