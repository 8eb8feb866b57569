"""Time models over the same bins, batch size by batch size, as processes of infer.py; compare their dumps first.

    python3 bench.py --run pytorch:models/fast_res50_256x192.pth \\
        --run onnxruntime:models/fast_res50_256x192_bs{batch}.onnx --batch 1 4 8 16 --input ./prep_data --output ./bench

Rounds are interleaved, and every other one runs backwards, so that warming up or slowing down affects all runs alike. A
ratio is taken within each round, and the median and range of these are printed, where the outputs agree: within 1e-3 of
the largest value in float32, within compare.py's gate fp16 or int8 where one of the two runs is of that precision. What
each round has timed is compared with the outputs that are judged. Writes bench.md, bench.json, bench.svg and bench.png
into --output. With --pipeline, a detector and a pose model are timed together, with a record of each round, and
pipeline.md is written.

    python3 bench.py --target cpu --dataroot data/demo --checkpoint demo/fastpose_small.pth \\
        --cfg configs/demo_fastpose.yaml

times every way of this CPU from photos and boxes to COCO results: each runtime that is installed, each of its
precisions, with two folders of bins and with one pass. It names the fastest that agrees, and writes cpu.md.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from comparison.folders import agree, check_folders, measure_folders
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least, parse
from contract.bins import BinReader
from contract.dumps import read_settings, read_summary, summary_of
from contract.errors import UserError
from contract.files import make_folder, write_file, write_json
from contract.machine import describe_machine
from contract.manifest import save_manifest
from contract.progress import Progress
from contract.published import Published
from contract.records import is_emulated
from contract.room import gate_of
from contract.run_record import RECORD, find_mismatch, remarks, wrong_outputs
from contract.spec import Spec, load_spec
from contract.tables import format_table, mark
from contract.workers import end, start
from detection.detector import SPP_CFG
from jobs.ways import add_arguments, table
from prediction.sources import Pictures, find_sources
from prediction.timing import Pair, time_round
from prediction.timing_record import NETWORKS, same_people

LIBRARIES = ("onnxruntime", "openvino", "tensorrt", "torch")  # names under which a backend gives its version
AGAIN = "_again"  # ends the name of the dumps of later rounds
COLUMNS = ("run", "batch", "ms per batch: median, p90, p99", "{unit}/s in the model", "ratio",
           "{unit}/s read, infer, write", "peak MiB", "largest difference")
PIPELINE = "pipeline"  # folder of its rounds, and name of its report
PIPELINE_COLUMNS = ("run", "batch", "detector ms", "pose ms", "sum ms", "images/s of the sum", "factor",
                    "images/s end to end", "factor end to end")


@dataclasses.dataclass(frozen=True)
class Run:
    """One model at one batch size."""

    backend: str
    model: str
    device: Optional[str]
    batch: int
    options: Tuple[str, ...] = ()  # more flags of infer.py

    @property
    def label(self) -> str:
        """The same for all batch sizes of a model."""
        name = os.path.splitext(os.path.basename(self.model))[0].replace(f"_bs{self.batch}", "")
        options = (option.replace("--", "", 1) for option in self.options)
        return " ".join(filter(None, (self.backend, self.device, *options, name)))

    @property
    def dumps(self) -> str:
        return f"{self.label}_bs{self.batch}".replace(" ", "_").replace(":", "_")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--run", action="append", default=[], metavar="BACKEND:MODEL[:DEVICE] [--FLAG ...]",
                        help="a model to time; repeat the option for each. {batch} in MODEL stands for the batch "
                        "size. Flags, such as --precision fp16, are those of infer.py. Ratios are to the first --run")
    parser.add_argument("--batch", type=at_least(1), nargs="+", default=[1, 4, 8, 16], help="batch sizes")
    parser.add_argument("--input", default="./prep_data", help="folder of bins")
    parser.add_argument("--random", action="store_true", help="random values in place of --input: times without data")
    parser.add_argument("--people", type=at_least(1), default=128, help="how many people of the bins to use, rounded "
                        "down to a multiple of the largest batch")
    parser.add_argument("--repeat", type=at_least(1), default=5, help="rounds")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="config of the models, or darknet's "
                        ".cfg if python3 -m detection.bins wrote the bins")
    parser.add_argument("--output", default="./bench", help="folder for the report")
    parser.add_argument("--pipeline", action="store_true", help="pair the first --run with the first --detector, and "
                        "so on; time each pair on the pictures of --images: both networks alone, and predict.py's "
                        "pipeline")
    parser.add_argument("--detector", action="append", default=[], metavar="BACKEND:MODEL[:DEVICE]",
                        help="with --pipeline: a detector, one for each --run")
    parser.add_argument("--yolo_cfg", default=os.path.relpath(SPP_CFG), help="darknet's .cfg of the detectors")
    parser.add_argument("--images", help="with --pipeline: folder of pictures")
    parser.add_argument("--target", choices=("cpu",), help="in place of --run: time every way of this machine's CPU, "
                        "at the last of the batch sizes")
    add_arguments(parser.add_argument_group("with --target"))
    args = parse(parser, argv)
    if bool(args.run) == bool(args.target):
        parser.error("expected --run, or --target in place of it")
    return args


def parse_run(text: str, batch: int, flag: str = "--run") -> Run:
    what, dashes, flags = text.partition(" --")  # a path may hold spaces
    backend, _, rest = what.strip().partition(":")
    model, _, device = rest.partition(":")
    if not model:
        raise UserError(f"{flag} {text}: expected BACKEND:MODEL or BACKEND:MODEL:DEVICE, and flags after that")
    return Run(backend, model.replace("{batch}", str(batch)), device or None, batch, tuple(shlex.split(dashes + flags)))


def bench(runs: List[Run], bins: Optional[Path], people: int, repeat: int, cfg: str, output: Path) -> Dict[str, Any]:
    """Time every run `repeat` times over the first `people` bins, or None for random values; write and return the
    report."""
    spec = load_spec(cfg)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bins = bins or random_bins(work / "random", spec, people)
        reader, largest = BinReader(bins, spec), max(run.batch for run in runs)
        count = complete_batches(reader.rows, people, largest)
        if not count:
            raise UserError(f"{min(people, sum(reader.rows))} people of the bins in {bins} do not fill a batch of "
                            f"{largest}. Give a larger --people or a smaller --batch")
        people = copy_bins(reader, count, work / "bins")
        rounds: Dict[Run, List[Dict[str, Any]]] = {run: [] for run in runs}
        for run in Progress(interleave(runs, repeat), unit="run", desc="bench"):
            rounds[run].append(time_run(run, work, cfg, again=bool(rounds[run])))
            check_round(run, work, rounds[run], spec)
        rows = [summarize(run, rounds[run], rounds[reference_of(run, runs)], work, runs[0], spec) for run in runs]
    report = {"rows": rows, "people": people, "rounds": repeat, "machine": describe_machine(),
              "unit": "photos" if spec.decode == "boxes" else "crops"}
    make_folder(output)
    write_json(output / "bench.json", report)
    write_file(output / "bench.md", format_report(report).encode())
    weights = spec.weights
    same_network = weights and any(str(row["settings"]["model"]).startswith(weights) for row in rows)
    plot(report, spec.published if same_network else (), output)
    return report


def interleave(runs: List[Any], repeat: int) -> List[Any]:
    """All runs once per round. Every other round is backwards, so that a steady drift favours no run."""
    return [run for number in range(repeat) for run in (runs if number % 2 == 0 else runs[::-1])]


def reference_of(run: Run, runs: List[Run]) -> Run:
    """The run that ratios are taken to: the first model, at the same batch size."""
    return next(one for one in runs if one.label == runs[0].label and one.batch == run.batch)


def complete_batches(rows: List[int], people: int, batch: int) -> int:
    """How many of the first bins, of `rows` people each, hold at most `people` and fill every batch. A short last batch
    would be unfair: it costs as much as a full one on some backends only."""
    ends = np.cumsum(rows)
    complete = np.nonzero((ends <= people) & (ends % batch == 0))[0]
    return int(complete[-1]) + 1 if len(complete) else 0


def random_bins(folder: Path, spec: Spec, people: int) -> Path:
    """Bins of values from 0 to 1, the same in each call."""
    rng = np.random.default_rng(0)
    for number in range(people):
        write_file(make_folder(folder) / f"{number:012d}.bin", rng.random(spec.input_shape, np.float32))
    return folder


def copy_bins(source: BinReader, count: int, target: Path) -> int:
    """The first `count` bins of `source` in a folder of their own; how many people they hold."""
    make_folder(target)
    for name in source.names[:count]:
        shutil.copyfile(source.folder / name, target / name)
    if source.manifest:
        save_manifest(target, source.manifest.of_rows(source.manifest.rows_of(range(count))))
    return sum(source.rows[:count])


def time_run(run: Run, work: Path, cfg: str, again: bool) -> Dict[str, Any]:
    """One process of infer.py, which warms up before it times; its summary and its peak memory in MiB. The dumps of the
    first round stay, to be compared."""
    dumps = f"{run.dumps}{AGAIN if again else ''}"
    command = [sys.executable, "infer.py", "--backend", run.backend, "--model", run.model, "--cfg", cfg, "--input",
               str(work / "bins"), "--output", str(work), "--output_dirname", dumps, "--batchsize", str(run.batch)]
    command += [*run.options, *(["--device", run.device] if run.device else [])]
    shutil.rmtree(work / dumps, ignore_errors=True)
    process = start(command, cwd=Path(__file__).parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None  # it is a pipe
        with process.stderr:
            errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        end(process)
    if process.returncode:
        reason = errors.splitlines()[-1] if errors else f"exit code {process.returncode}"
        raise UserError(f"{run.label} at batch {run.batch}: {reason.replace('error: ', '', 1)}")
    summary, settings = read_summary(summary_of(work / dumps)), read_settings(work / dumps)
    assert settings is not None  # infer.py has written them
    mismatch = find_mismatch(work / dumps, summary, settings)
    if mismatch:
        raise UserError(f"{run.label} at batch {run.batch}: its summary is not of this run: {mismatch}")
    return {**summary, "settings": settings, "peak_mib": usage.ru_maxrss / 1024}


def check_round(run: Run, work: Path, rounds: List[Dict[str, Any]], spec: Spec) -> None:
    """Raises UserError when the last round timed other outputs than those of the first, which are compared. Not every
    device gives the same bytes twice: what differs must lie within the gate of the run's own precision."""
    if len(rounds) == 1 or not wrong_outputs(work / run.dumps, rounds[-1]):
        return
    gate = gate_of([rounds[-1]["settings"]["precision"]])
    measured = measure_folders(work / f"{run.dumps}{AGAIN}", work / run.dumps, spec, gate)
    if not agree(measured, gate):
        raise UserError(f"{run.label} at batch {run.batch}: round {len(rounds)} gave other outputs than the first "
                        f"(largest difference {measured['largest']:.1e}). A time is of one computation: does the model "
                        "or the device give the same twice?")


def summarize(run: Run, rounds: List[Dict[str, Any]], base: List[Dict[str, Any]], work: Path, first: Run,
              spec: Spec) -> Dict[str, Any]:
    """Medians and ranges over the rounds; percentiles over all batches of all rounds. `base`: those of `reference_of`.

    The ratio is None where the outputs differ.
    """
    milliseconds = np.concatenate([one["npu_compute_time_list"] for one in rounds])
    settings = rounds[0]["settings"]
    gate = gate_of([settings["precision"], base[0]["settings"]["precision"]])
    measured = measure_folders(work / run.dumps, work / first.dumps, spec, gate)
    ratios = [theirs / mine for mine, theirs in zip(batch_seconds(rounds), batch_seconds(base))]
    return {
        "label": run.label, "batch": run.batch,
        "milliseconds": {"median": float(np.median(milliseconds)), "p90": float(np.percentile(milliseconds, 90)),
                         "p99": float(np.percentile(milliseconds, 99))},
        "rows_per_second": describe_spread([run.batch / one for one in batch_seconds(rounds)]),
        "ratio": describe_spread(ratios) if agree(measured, gate) else None,
        "end_to_end": describe_spread([one["end_to_end"]["people_per_second"] for one in rounds]),
        "peak_mib": max(one["peak_mib"] for one in rounds), "remarks": remarks(rounds),
        "gate": gate, "difference": measured, "settings": settings,
    }


def batch_seconds(rounds: List[Dict[str, Any]]) -> List[float]:
    """Of each round, the median time of a batch in the model."""
    return [float(np.median(one["npu_compute_time_list"])) / 1000 for one in rounds]


def describe_spread(values: List[float]) -> Dict[str, float]:
    return {"median": float(np.median(values)), "lowest": min(values), "highest": max(values)}


def format_report(report: Dict[str, Any]) -> str:
    machine, rows = report["machine"], report["rows"]
    versions = {name: value for row in rows for name, value in row["settings"].items() if name in LIBRARIES}
    devices = dict.fromkeys(row["settings"]["device"] for row in rows)
    lines = [f"{machine['cpu']}, {machine['threads']} threads; {', '.join(map(str, devices))}; "
             f"Python {machine['python']}, numpy {machine['numpy']}, "
             + ", ".join(f"{name} {value}" for name, value in versions.items())
             + f"; {report['people']} {report['unit']}, {report['rounds']} interleaved rounds, medians "
             "(lowest - highest).", "",
             format_table([column.format(unit=report["unit"]) for column in COLUMNS], map(report_cells, rows))]
    return "\n".join(lines) + "\n"


def report_cells(row: Dict[str, Any]) -> List[Any]:
    """A row under COLUMNS."""
    remarks = row["remarks"]
    figures = [(", ".join(f"{value:.1f}" for value in row["milliseconds"].values()), []),
               (_spread(row["rows_per_second"]), remarks),
               (_spread(row["ratio"], 2), remarks) if row["ratio"] else ("outputs differ", []),
               (_spread(row["end_to_end"]), []), (f"{row['peak_mib']:.0f}", []),
               (f"{row['difference']['largest']:.1e}", [])]
    return [row["label"], row["batch"], *(mark(figure, is_emulated(row["settings"]), *words)
                                          for figure, words in figures)]


def _spread(values: Dict[str, float], digits: int = 1) -> str:
    return "{:.{n}f} ({:.{n}f} - {:.{n}f})".format(values["median"], values["lowest"], values["highest"], n=digits)


def plot(report: Dict[str, Any], published: Sequence[Published], output: Path) -> None:
    """Throughput, from the lowest round to the highest, and time per batch, from the median to the 90th percentile,
    against batch size; published figures as marks: SVG and PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for label in dict.fromkeys(row["label"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["label"] == label]
        batches = [row["batch"] for row in rows]
        rates, times = ([row[name] for row in rows] for name in ("rows_per_second", "milliseconds"))
        left.errorbar(batches, [rate["median"] for rate in rates], fmt="o-", capsize=3, label=label, yerr=[
            [rate["median"] - rate["lowest"] for rate in rates], [rate["highest"] - rate["median"] for rate in rates]])
        right.errorbar(batches, [time["median"] for time in times], fmt="o-", capsize=3, label=label, yerr=[
            [0] * len(times), [time["p90"] - time["median"] for time in times]])
    for where, points in published_rates(published, f"{report['unit']}/s").items():
        left.plot(points.keys(), points.values(), "x", label=f"{where} (published)")
    figure.suptitle(f"{report['machine']['cpu']}, {report['people']} {report['unit']}, {report['rounds']} rounds")
    sizes = sorted({row["batch"] for row in report["rows"]})
    for axes, name in ((left, f"{report['unit']}/s in the model"), (right, "ms per batch, median and 90 %")):
        axes.set(xscale="log", yscale="log", xlabel="batch", ylabel=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, list(map(str, sizes)))
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    for suffix in ("svg", "png"):
        figure.savefig(output / f"bench.{suffix}", dpi=120)
    pyplot.close(figure)


def published_rates(published: Sequence[Published], figure: str) -> Dict[str, Dict[int, float]]:
    """By device: batch -> rate, of those whose batch is named."""
    rates: Dict[str, Dict[int, float]] = {}
    for cell in published:
        if cell.figure == figure and cell.batch is not None:
            rates.setdefault(cell.where, {})[cell.batch] = cell.value
    return rates


def time_pipeline(args: argparse.Namespace) -> None:
    if len(args.detector) != len(args.run) or not args.images:
        raise UserError(f"--pipeline: {len(args.run)} --run and {len(args.detector)} --detector, expected one of each "
                        "per pair, and --images")
    source = find_sources([args.images], Path(args.output) / PIPELINE)[0]
    if not isinstance(source, Pictures):
        raise UserError(f"{args.images}: expected a folder of pictures")
    pairs = [Pair(parse_run(detector, batch, "--detector"), parse_run(pose, batch)) for batch in args.batch
             for detector, pose in zip(args.detector, args.run)]
    folders = [Path(args.output) / PIPELINE / f"{number}_{pair.detector.dumps}_{pair.pose.dumps}"
               for number, pair in enumerate(pairs)]
    specs = {"detector": load_spec(args.yolo_cfg), "pose": load_spec(args.cfg)}
    rounds: List[List[Dict[str, Any]]] = [[] for _ in pairs]
    for number in Progress(interleave(list(range(len(pairs))), args.repeat), unit="round", desc="bench"):
        pair, folder = pairs[number], folders[number]
        now = folder.with_name(f"{folder.name}{AGAIN}") if rounds[number] else folder
        rounds[number].append(time_round(pair, args.cfg, args.yolo_cfg, source, now))
        if now != folder and not (same_networks(now, folder, rounds[number][-1:], specs) and same_people(now, folder)):
            raise UserError(f"{pair.label} at batch {pair.pose.batch}: round {len(rounds[number])} gave other people "
                            "than the first. A time is of one computation: do the models or the device give the same "
                            "twice?")
    firsts = [next(one for one, other in enumerate(pairs) if other.pose.batch == pair.pose.batch) for pair in pairs]
    agreeing = [same_networks(folder, folders[first], [rounds[number][0], rounds[first][0]], specs)
                for number, (folder, first) in enumerate(zip(folders, firsts))]
    report = pipeline_report(pairs, rounds, firsts, agreeing)
    write_file(make_folder(args.output) / f"{PIPELINE}.md", f"{report}\n".encode())
    print(report)


def same_networks(folder: Path, reference: Path, rounds: List[Dict[str, Any]], specs: Dict[str, Spec]) -> bool:
    """Whether the outputs of both networks agree as far as the precisions of the rounds let them."""
    for name, spec in specs.items():
        gate = gate_of([one[RECORD]["settings"][name]["precision"] for one in rounds])
        check_folders(folder / name, reference / name, spec)
        if not agree(measure_folders(folder / name, reference / name, spec, gate), gate):
            return False
    return True


def pipeline_report(pairs: List[Pair], rounds: List[List[Dict[str, Any]]], firsts: List[int],
                    agreeing: List[bool]) -> str:
    """A row for each pair, factors to the first of its batch size, and where the time of the last goes. All medians."""
    figures = [pipeline_figures(pair, mine) for pair, mine in zip(pairs, rounds)]
    rows = []
    for number, (pair, mine) in enumerate(zip(pairs, figures)):
        first, settings = figures[firsts[number]], rounds[number][0][RECORD]["settings"]
        factors = [f"{first['sum'] / mine['sum']:.2f}", f"{mine['rate'] / first['rate']:.2f}"] if agreeing[number] \
            else ["outputs differ"] * 2
        cells = [*(f"{mine[name]:.2f}" for name in ("detector", "pose", "sum", "sum rate")), factors[0],
                 f"{mine['rate']:.2f}", factors[1]]
        emulated, words = any(is_emulated(settings[name]) for name in NETWORKS), remarks(rounds[number])
        rows.append([pair.label, pair.pose.batch, *(mark(cell, emulated, *(words if place in (3, 5) else ()))
                                                    for place, cell in enumerate(cells))])
    record = rounds[-1][0][RECORD]
    images, machine = record["crops"], record["machines"][0]
    stages = [[stage, f"{np.median([1000 * one['stages'][stage] / images for one in rounds[-1]]):.2f}"]
              for stage in rounds[-1][0]["stages"]]
    return "\n\n".join([f"{machine['cpu']}, {machine['threads']} threads; {images} images, {len(rounds[-1])} "
                        "interleaved rounds, medians.", format_table(PIPELINE_COLUMNS, rows),
                        f"Where the time goes, {pairs[-1].label} at batch {pairs[-1].pose.batch}:",
                        format_table(["stage", "ms an image at work"], stages)])


def pipeline_figures(pair: Pair, rounds: List[Dict[str, Any]]) -> Dict[str, float]:
    """Medians: milliseconds of a batch in each network and in both, images a second of these, and end to end."""
    alone = {name: float(np.median([value for one in rounds for value in one[name]])) for name in NETWORKS}
    total = sum(alone.values())
    return {**alone, "sum": total, "sum rate": 1000 * pair.pose.batch / total,
            "rate": float(np.median([one[RECORD]["crops"] / one["seconds"] for one in rounds]))}


def time_ways(args: argparse.Namespace) -> None:
    output = make_folder(args.output)
    report = table(args, args.batch[-1], output / "ways")
    write_file(output / "cpu.md", f"{report}\n".encode())
    print(report)


def main() -> None:
    args = parse_args()
    if args.target:
        return time_ways(args)
    if args.pipeline:
        return time_pipeline(args)
    runs = [parse_run(text, batch) for batch in args.batch for text in args.run]
    bins = None if args.random else Path(args.input)
    report = bench(runs, bins, args.people, args.repeat, args.cfg, Path(args.output))
    print(format_report(report))


if __name__ == "__main__":
    sys.exit(exit_code(main))
