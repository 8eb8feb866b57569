"""What the log and the exported JSON of a trtexec say, 7 to 11.

    python3 -m backends.tensorrt.trtexec trtexec.log --batch 16

prints a row of a Markdown table for each run in the log. trtexec counts queries per second, and a query is one batch:
people per second are queries times batch. Of a network without a batch axis, whose batch is trtexec's own --batch=N, it
counts the people themselves.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import math
import re
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from backends.tensorrt.calibration_table import Version, decode_version, dotted
from contract.arguments import HelpFormatter, at_least
from contract.errors import UserError
from contract.files import PathLike, make_folder, read_json, read_text, write_file
from contract.measures import is_measure
from contract.tables import format_table

RUNNING, PASSED, FAILED = "&&&& RUNNING", "&&&& PASSED", "&&&& FAILED"
TIMES = ("Latency", "End-to-End Host Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency")
FACTS = {"qps": r"[Tt]hroughput: (\S+) qps", "queries": r"Timing trace has (\d+) queries",
         "host_s": r"Total Host Walltime: (\S+) s", "gpu_s": r"Total GPU Compute Time: (\S+) s",
         "build_s": r"Engine built in (\S+) sec", "engine_mib": r"Created engine with size: (\S+) MiB"}
COLUMNS = ("log", "TensorRT", "batch", "people/s", "latency ms", "GPU ms", "GPU p99 ms", "warnings")
_MESSAGE = re.compile(r"\[[\d/]+-[\d:]+\] \[([FEWIV])\] ?(.*)")
_VERSION = re.compile(r"\[TensorRT v(\d+)\]")
_TIME = re.compile(r"(?<!\w)(\w+(?:\(\d+(?:\.\d+)?%\))?) = (\S+) ms")
_SHAPE = re.compile(r"--(shapes|optShapes)=[^:]*:(\d+)x.*")
_IMPLICIT = re.compile(r"--batch=(\d+)")
_OLD_TITLES = {"Host Latency": "Latency", "Enqueue Time": "Enqueue Time", "GPU Compute": "GPU Compute Time"}
_OLD_TIME = re.compile(r"(min|max|mean|median|percentile): (\S+) ms(?: at (\d+)%)?")  # up to TensorRT 7, a line each


class Log(NamedTuple):
    """The log of one run. Values are absent that the release does not print, or that the run did not reach."""

    version: Optional[Version]
    passed: bool
    batch: Optional[int]  # on its command line: of dynamic shapes, or where it is implicit
    implicit: bool  # the network has no batch axis, and a query is one person
    times: Dict[str, Dict[str, float]]  # such as GPU Compute Time -> median, percentile(99%) -> milliseconds
    facts: Dict[str, float]  # keys of FACTS
    warnings: List[str]  # about how far the times can be trusted
    errors: List[str]


def read_logs(text: str, where: PathLike) -> List[Log]:
    """What trtexec 7 to 11 prints, run by run: `trtexec ... >> log` leaves several in a file. Lines may be missing."""
    later = [match.start() for match in re.finditer(RUNNING, text)][1:]
    return [read_log(text[start:end], where) for start, end in zip([0, *later], [*later, len(text)])]


def read_log(text: str, where: PathLike = "trtexec") -> Log:
    """Of one run."""
    lines = text.splitlines()
    messages = [match.groups() for match in map(_MESSAGE.match, lines) if match]
    times: Dict[str, Dict[str, float]] = {}
    facts: Dict[str, float] = {}
    title = ""
    for _, message in messages:
        title = _OLD_TITLES.get(message.strip(), title)
        old, label, values = _OLD_TIME.match(message), message.split(":", 1)[0], _TIME.findall(message)
        if label in TIMES and values:  # trtexec --verbose also explains each label
            times[label] = {key: _number(value) for key, value in values}
        elif old and title:
            key = f"percentile({old.group(3)}%)" if old.group(3) else old.group(1)
            times.setdefault(title, {})[key] = _number(old.group(2))
        for key, pattern in FACTS.items():
            match = re.match(pattern, message)
            if match:
                if key == "qps" and key in facts:
                    raise UserError(f"{where}: a second line {message!r}, but no line {RUNNING} between them: the log "
                                    "holds runs whose beginnings are lost. Give the log of one run")
                facts[key] = _number(match.group(1))
    version, command = _VERSION.search(text), next((line for line in lines if line.startswith(RUNNING)), "")
    shapes = {match.group(1): match.group(2) for match in map(_SHAPE.fullmatch, command.split()) if match}
    batch = int(shapes.get("shapes") or shapes.get("optShapes") or 0)
    implicit = [int(match.group(1)) for match in map(_IMPLICIT.fullmatch, command.split()) if match]
    if batch and implicit:
        raise UserError(f"{where}: its command line has --shapes and --batch={implicit[0]}, and trtexec takes one of "
                        "them. Run it with --shapes alone")
    return Log(version and decode_version(int(version.group(1))), PASSED in text and FAILED not in text,
               (implicit or [batch])[0] or None, bool(implicit), times, facts,
               [message[2:] for level, message in messages if message.startswith("* ")],
               [message for level, message in messages if level in "FE"])


def check_log(log: Log, where: PathLike) -> None:
    """Raises UserError unless the run passed; the exit code of trtexec does not show it."""
    if not log.passed:
        reason = " ".join(log.errors[0].split()) if log.errors else "it did not print PASSED"
        raise UserError(f"{where}: this run of trtexec did not pass: {reason}")
    percentiles = [(name, value) for times in log.times.values() for name, value in times.items()]
    for name, value in [*log.facts.items(), *percentiles]:
        if not value >= 0 or value == math.inf and name in log.facts:  # of few queries, a percentile is printed as inf
            raise UserError(f"{where}: {name} is {value}, which cannot have been measured. Run trtexec again")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def percentile(values: Sequence[float], percent: float) -> float:
    """As trtexec takes it: a value of the list, without interpolation."""
    ordered = sorted(values)
    return ordered[max(len(ordered) - 1 - int((1 - percent / 100) * len(ordered)), 0)]


def read_times(path: PathLike) -> Dict[str, Dict[str, float]]:
    """What --exportTimes wrote, in the words of the log."""
    queries = read_json(path, "trtexec --exportTimes")
    try:
        columns = {label: [query[key] for query in queries]
                   for label, key in (("Latency", "latencyMs"), ("GPU Compute Time", "computeMs"))}
        if not all(is_measure(value) for values in columns.values() for value in values):
            raise TypeError
        return {label: {"median": statistics.median(values), "percentile(99%)": percentile(values, 99)}
                for label, values in columns.items()}
    except (KeyError, TypeError, statistics.StatisticsError):
        raise UserError(f"{path}: not what trtexec --exportTimes writes: expected a list of queries with latencyMs and "
                        "computeMs, finite and not negative") from None


def read_output(path: PathLike) -> np.ndarray:
    """The tensor that --exportOutput wrote, float32, in its shape."""
    tensors = read_json(path, "trtexec --exportOutput")
    try:
        if len(tensors) != 1:
            raise UserError(f"{path}: holds {len(tensors)} outputs, {', '.join(tensor['name'] for tensor in tensors)}, "
                            "expected one: a dump is of one output")
        shape = [int(size) for size in tensors[0]["dimensions"].split("x")]
        return np.array(tensors[0]["values"], np.float32).reshape(shape)
    except UserError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not what trtexec --exportOutput writes ({type(error).__name__}: {error})") from None


def table_row(name: str, log: Log, batch: Optional[int]) -> List[Any]:
    """The cells of one row under COLUMNS. Raises UserError without a batch or a throughput."""
    if batch and log.batch and batch != log.batch:
        raise UserError(f"{name}: ran with batch {log.batch}, as its command line says, but --batch is {batch}. "
                        "Leave --batch out")
    people = batch or log.batch
    if not people:
        raise UserError(f"{name}: its command line names no --shapes, so the batch of a query is unknown. Give --batch")
    if "qps" not in log.facts:
        raise UserError(f"{name}: holds no line Throughput. Run trtexec without --skipInference")
    gpu, rate = log.times.get("GPU Compute Time", {}), log.facts["qps"] * (1 if log.implicit else people)
    return [name, dotted(log.version) if log.version else "", people, f"{rate:.1f}",
            _ms(log.times.get("Latency", {}).get("median")), _ms(gpu.get("median")), _ms(gpu.get("percentile(99%)")),
            "; ".join(log.warnings)]


def _ms(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.3f}"


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.tensorrt.trtexec", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("log", help="what trtexec printed")
    parser.add_argument("--times", help="file of --exportTimes, whose percentiles replace those of the log")
    parser.add_argument("--batch", type=at_least(1), help="people per batch (default: from the command line in the "
                        "log)")
    parser.add_argument("--output", help="file of --exportOutput to convert to a dump")
    parser.add_argument("--dump", help="the dump to write, such as results/trtexec/000000000000_0.bin")
    args = parser.parse_args(argv)
    if bool(args.output) != bool(args.dump):
        parser.error("--output and --dump go together")
    return args


def main() -> None:
    args = parse_args()
    logs = read_logs(read_text(args.log, "trtexec log"), args.log)
    for log in logs:
        check_log(log, args.log)
    if len(logs) > 1 and (args.times or args.output):
        raise UserError(f"{args.log}: holds {len(logs)} runs, and --times and --output are of one. Give the log of one "
                        "run")
    if args.times:
        logs = [logs[0]._replace(times={**logs[0].times, **read_times(args.times)})]
    name = Path(args.log).name
    names = [name] if len(logs) == 1 else [f"{name}, run {number}" for number in range(1, len(logs) + 1)]
    print(format_table(COLUMNS, [table_row(*row, args.batch) for row in zip(names, logs)]))
    if args.dump:
        make_folder(Path(args.dump).parent)
        write_file(args.dump, read_output(args.output))


if __name__ == "__main__":
    sys.exit(exit_code(main))
