"""Run a model over a folder of bins and write its dumps: `python3 -m ais_bench` for devices that have no ais_bench.

    python3 infer.py --backend onnxruntime --model models/fast_res50_256x192_bs16.onnx --input ./prep_data \\
        --output ./results --output_dirname bs16

Reads, infers and writes at the same time, a few batches deep. Run again after an interruption, it continues.
"""
from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional

import numpy as np
from tqdm import tqdm

from pose.backend import ROOMS, Backend, infer_rows, open_pose_backend
from pose.bins import BinReader
from pose.config import load_config
from pose.dumps import SETTINGS, dump_name
from pose.errors import UserError, exit_code
from pose.files import make_folder, read_json, remove_file, sha256_of_file, write_file, write_json
from pose.manifest import bins_in, remove_bins, settings_difference

DEFAULT_BATCH = 16  # of a model that takes any
BATCHES_AHEAD = 2  # read before they are needed, and waiting to be written


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--backend", choices=sorted(ROOMS), default="onnxruntime", help="what runs the model")
    parser.add_argument("--model", required=True, help=".onnx for onnxruntime, .pth for pytorch")
    parser.add_argument("--input", default="./prep_data", help="folder of bins")
    parser.add_argument("--output", default="./results", help="folder for the dumps' folder and its summary")
    parser.add_argument("--output_dirname", required=True, help="name of the dumps' folder, such as bs16")
    parser.add_argument("--cfg", default="configs/256x192_res50_lr1e-3_1x.yaml", help="config of the model")
    parser.add_argument("--batchsize", type=int, help=f"people at once; the model's own, or {DEFAULT_BATCH}, if None")
    parser.add_argument("--device", help="cpu, cuda or cuda:1; the backend's default if None")
    parser.add_argument("--replace", action="store_true", help="remove dumps of other settings instead of refusing")
    args = parser.parse_args(argv)
    if args.batchsize is not None and args.batchsize < 1:
        parser.error(f"--batchsize is {args.batchsize}, expected at least 1")
    return args


def infer(backend: Backend, bins: BinReader, output: Path, settings: Dict[str, Any], batch: int,
          replace: bool = False) -> Dict[str, Any]:
    """Write a dump into `output` for each of `bins`, and a summary beside `output`, which is returned.

    Batches are always cut from the same places, so that a continued run gives the bytes of an uninterrupted one.
    """
    summary_path = Path(f"{output}_summary.json")
    whole = claim_folder(output, settings, bins, replace)
    groups = [group for group in bins.groups(batch) if not whole.issuperset(group)]
    if not groups and summary_path.exists():
        print(f"{output}: {len(bins)} dumps are there already, of the same model and bins")
        return read_json(summary_path, "summary")
    remove_file(summary_path)  # of an earlier run; it must not describe this one
    if groups:
        infer_rows(backend, bins.read(groups[0]), batch)  # warm-up, not timed
    times: List[float] = []
    start = time.perf_counter()
    people = run_groups(backend, bins, groups, output, batch, times)
    summary = summarize(bins, output, batch, times, people, time.perf_counter() - start)
    write_json(summary_path, summary)
    return summary


def run_groups(backend: Backend, bins: BinReader, groups: List[range], output: Path, batch: int,
               times: List[float]) -> int:
    """Infer the groups of bins while the next are read and the last are written; people done. Adds each batch's
    milliseconds to `times`."""

    def write(group: range, heatmaps: np.ndarray) -> None:
        first = 0
        for number in group:
            rows = bins.rows[number]
            write_file(output / dump_name(bins.names[number]), heatmaps[first:first + rows])
            first += rows

    timed = TimedBackend(backend, times)
    total = sum(bins.rows[number] for group in groups for number in group)
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing, tqdm(
            total=total, unit="person", desc="infer") as bar:
        unwritten: Deque[Future] = deque()
        for group, rows in zip(groups, read_ahead(reading, bins.read, groups)):
            if len(unwritten) == BATCHES_AHEAD:
                unwritten.popleft().result()
            unwritten.append(writing.submit(write, group, infer_rows(timed, rows, batch)))
            bar.update(len(rows))
        for job in unwritten:
            job.result()
    return total


def read_ahead(pool: ThreadPoolExecutor, read: Callable[[range], np.ndarray],
               groups: Iterable[range]) -> Iterator[np.ndarray]:
    """`read` of each group, in order, BATCHES_AHEAD of them running or waiting."""
    waiting: Deque[Future] = deque()
    for group in groups:
        waiting.append(pool.submit(read, group))
        if len(waiting) > BATCHES_AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class TimedBackend:
    """A backend that notes how long each batch took, in milliseconds."""

    def __init__(self, backend: Backend, times: List[float]):
        self.backend, self.times, self.input_shape = backend, times, backend.input_shape

    def infer(self, rows: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        heatmaps = self.backend.infer(rows)
        self.times.append(1000 * (time.perf_counter() - start))
        return heatmaps


def claim_folder(output: Path, settings: Dict[str, Any], bins: BinReader, replace: bool) -> set:
    """Make the dumps' folder, or check that what it holds is of this run. Returns the numbers of bins that are done."""
    found, path = bins_in(output), output / SETTINGS
    earlier = read_json(path, "settings") if path.exists() else None
    difference = settings_difference(settings, earlier) if earlier else found and "nothing says which"
    if difference and not replace:
        raise UserError(f"{output}: holds dumps of another run ({difference}). Empty it, choose another "
                        "--output_dirname, or let --replace remove them")
    if difference:
        remove_bins(output, SETTINGS)
    make_folder(output)
    write_json(path, settings)
    return set() if difference else {number for number, name in enumerate(bins.names) if dump_name(name) in found}


def summarize(bins: BinReader, output: Path, batch: int, times: List[float], people: int,
              seconds: float) -> Dict[str, Any]:
    """The keys of ais_bench's summary, and what a person costs from file to file.

    `throughput` is ais_bench's: 1000 * batch / mean milliseconds of the model alone, padding counted as people.
    """
    summary = {
        "filesinfo": {str(number): {"infiles": [str(bins.folder / name)], "outfiles": [str(output / dump_name(name))]}
                      for number, name in enumerate(bins.names)},
        "args": sys.argv,
        "NPU_compute_time": {"min": min(times), "max": max(times), "mean": float(np.mean(times)),
                             "median": float(np.median(times)), "percentile(99%)": float(np.percentile(times, 99)),
                             "count": len(times)} if times else None,
        "throughput": 1000 * batch / float(np.mean(times)) if times else None,
        "npu_compute_time_list": times,
        "pid": os.getpid(),
        "end_to_end": {"people": people, "seconds": seconds, "people_per_second": people / seconds},
    }
    return summary


def choose_batch(backend: Backend, batchsize: Optional[int], model: str) -> int:
    fixed = backend.input_shape[0]
    if fixed is not None and batchsize not in (None, fixed):
        raise UserError(f"{model}: takes batches of {fixed}, but --batchsize is {batchsize}. Leave --batchsize out")
    return fixed or batchsize or DEFAULT_BATCH


def main() -> None:
    args = parse_args()
    config = load_config(args.cfg)
    bins = BinReader(Path(args.input), config)
    backend = open_pose_backend(args.backend, args.model, config, args.device)
    batch = choose_batch(backend, args.batchsize, args.model)
    settings = {"backend": args.backend, **backend.describe(), "model": os.path.basename(args.model),
                "model_sha256": sha256_of_file(args.model), "batch": batch,
                "bins": bins.manifest.settings if bins.manifest else None}
    summary = infer(backend, bins, Path(args.output) / args.output_dirname, settings, batch, args.replace)
    backend.close()
    end = summary["end_to_end"]
    print(f"model alone {summary['throughput']:.1f} crops/s at batch {batch}; read, infer and write "
          f"{end['people_per_second']:.1f} crops/s, {end['people']} in {end['seconds']:.1f} s")


if __name__ == "__main__":
    sys.exit(exit_code(main))
