"""Every way of a CPU from photos and boxes to COCO results, side by side: people per second, bytes, AP, agreement.

A way is a target that runs on a CPU, one of its precisions, and two folders of bins or one pass. What it needs is built
once. Then every round runs preprocess.py, infer.py and postprocess.py of each way as processes, with their starts, and
every other round backwards. Each way is compared with the first by compare.py, within the gate of its precision; the
fastest of those that agree is named.
"""
from __future__ import annotations

from contract.script import ROOT

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from contract.arguments import at_least
from contract.errors import UserError
from contract.files import read_json
from contract.manifest import bins_in
from contract.progress import Progress
from contract.room import FP32, INT8, PRECISIONS
from contract.stage import Stage, stage
from contract.tables import format_table
from jobs.arguments import DEFAULTS
from jobs.job import FLOAT32, UINT8, Job
from jobs.plan import plan
from jobs.targets import TARGETS, room_of
from jobs.validation import AGREES, comparison

TIMED = ("preprocess.py", "infer.py", "postprocess.py")
# Of a CPU: what runs there -> its target. The first in float32, with two folders, is what the others are compared with.
RUNNERS = {next(iter(runners)): target for target, runners in TARGETS.items() if target != "gpu"}
FORMS = ("two folders", "one pass")
CALIBRATION_PHOTOS = 100


class Way(NamedTuple):
    """One row of the table, and the wall seconds of its rounds."""

    job: Job
    stages: List[Stage]
    seconds: List[float]

    @property
    def name(self) -> str:
        return f"{self.job.runner} {self.job.options.get('precision', FP32)}, {FORMS[self.job.one_pass]}"

    def go(self, build: bool) -> float:
        """Seconds of one round, or of the first one, which builds as well."""
        for folder in (self.job.bins(), self.job.bins(True), self.job.results):
            shutil.rmtree(folder, ignore_errors=True)
        return sum(run(one) for one in self.stages if build or one.name in TIMED)

    def row(self, first: Way) -> Dict[str, Any]:
        """Of the table; the ratio is the median of those of the rounds."""
        metrics = read_json(self.job.metrics, "metrics")
        people = metrics["people"]["boxes"]
        runner, form = self.name.split(", ")
        return {"runner": runner, "bins": form, "people/s": rate(people, self.seconds),
                "ratio": ratio(first.seconds, self.seconds), "bytes per person": bytes_of(self.job) // people,
                "AP": f"{metrics['metrics']['AP']:.4f}",
                "agrees": "-" if self is first else "yes" if agrees(first.job, self.job) else "NO"}


def add_arguments(parser: Any) -> None:
    """The flags that `ways_of` reads, beside --cfg, --batch and --repeat."""
    parser.add_argument("--dataroot", type=Path, default=DEFAULTS["dataroot"], help="photos and annotations")
    parser.add_argument("--detections", type=Path, help="boxes (default: detections.json of the data root)")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULTS["checkpoint"], help="trained weights")
    parser.add_argument("--calibration", type=Path, help="data root whose annotated people int8 is calibrated on "
                        "(default: --dataroot, whose AP is then too good)")
    parser.add_argument("--runners", nargs="+", choices=list(RUNNERS), default=list(RUNNERS), help="those wanted, of "
                        "those that are installed")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="those wanted, of "
                        "a runner's own")
    parser.add_argument("--limit", type=at_least(1), help="only the first photos")


def table(args: argparse.Namespace, batch: int, work: Path, more: Sequence[Any] = ()) -> str:
    """Measure and compare every way that is installed here; the table, a line for each that is not, and the fastest.

    `more` are rows of other kinds, with a name, seconds, and the methods of a Way.
    """
    ways, left_out = ways_of(args, batch, work)
    left_out.update(measure([*ways, *more], args.repeat))
    done = [way for way in ways if way.seconds]
    if not done:
        raise UserError(next(iter(left_out.values())))
    rows = [way.row(done[0]) for way in (*done, *more) if way.seconds]
    inside = [(statistics.median(way.seconds), way.name) for way, row in zip(done, rows) if row["agrees"] != "NO"]
    return "\n\n".join([format_table(list(rows[0]), [list(row.values()) for row in rows]),
                        *(f"{name}: left out: {reason}" for name, reason in left_out.items()),
                        f"the fastest that agrees: {min(inside)[1]}"])


def ways_of(args: argparse.Namespace, batch: int, work: Path) -> Tuple[List[Way], Dict[str, str]]:
    """Of all runners that are asked for, and why some cannot run here."""
    ways, left_out = [], {}
    for runner in args.runners:
        target = RUNNERS[runner]
        room = room_of(target, runner)
        missing = room.missing_packages(runner)
        if missing:
            install = f": {room.INSTALL}" if hasattr(room, "INSTALL") else ""
            left_out[runner] = f"Python has no {', '.join(missing)}{install}"
            continue
        ways += [way_of(args, batch, work, runner, precision, one_pass)
                 for precision in room.options(target).get("precision", (FP32,)) if precision in args.precision
                 for one_pass in ((False, True) if getattr(room, "ONE_PASS", False) else (False,))]
    if not ways:
        raise UserError(f"none of {', '.join(args.runners)} is installed, or has the precision")
    return ways, left_out


def way_of(args: argparse.Namespace, batch: int, work: Path, runner: str, precision: str, one_pass: bool) -> Way:
    target = RUNNERS[runner]
    options = {"precision": precision} if "precision" in room_of(target, runner).options(target) else {}
    job = Job(target=target, runner=runner, batch=batch, dataroot=args.dataroot.absolute(),
              checkpoint=args.checkpoint.absolute(), cfg=Path(args.cfg).absolute(), weights=Path(), yolo_cfg=Path(),
              work=work.absolute() / f"{runner}_{precision}_{'one_pass' if one_pass else 'two'}",
              shared_models=work.absolute() / "models",
              detections=(args.detections or args.dataroot / "detections.json").absolute(), limit=args.limit,
              dtype=UINT8 if one_pass else FLOAT32, one_pass=one_pass, options=options,
              calibration=calibration_bins(args, work) if precision == INT8 else None)
    return Way(job, plan(job), [])


def calibration_bins(args: argparse.Namespace, work: Path) -> Path:
    """Bins of annotated people of --calibration, which int8 takes its ranges from; made once."""
    bins = work.absolute() / "calibration"
    run(stage("preprocess.py", "--dataroot", args.calibration or args.dataroot, "--gt_boxes", "--no_flip", "--cfg",
              args.cfg, "--output", bins, "--limit", CALIBRATION_PHOTOS, "--replace"))
    return bins


def run(one: Stage, python: str = sys.executable) -> float:
    """Wall seconds of one process."""
    started = time.perf_counter()
    finished = subprocess.run([python, *one.command], cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode not in one.codes:
        raise UserError(f"{one.name}: {(finished.stderr.splitlines() or ['it failed'])[-1]}")
    return time.perf_counter() - started


def measure(ways: Sequence[Any], repeat: int) -> Dict[str, str]:
    """Fill the ways' seconds; why each of those failed that did, which are left out from then on."""
    failed: Dict[str, str] = {}
    rounds = [(number, way) for number in range(repeat + 1)  # the first builds, and fills the page cache
              for way in (ways if number % 2 == 0 else ways[::-1])]
    for number, way in Progress(rounds, unit="run", desc="ways"):
        if way.name in failed:
            continue
        try:
            seconds = way.go(build=number == 0)
        except UserError as error:
            failed[way.name] = str(error)
            way.seconds.clear()
            continue
        if number:
            way.seconds.append(seconds)
    return failed


def agrees(first: Job, other: Job) -> bool:
    """Within the gate of its precision, as compare.py says."""
    command = [sys.executable, *comparison(first, other).command]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == AGREES


def bytes_of(job: Job) -> int:
    """Of bins and dumps: each is written once, and read once by the next stage."""
    folders = [job.bins(), *job.all_dumps, *([job.bins(True)] if job.mirrors else [])]
    return sum(sum(bins_in(folder).values()) for folder in folders)


def rate(people: int, seconds: List[float]) -> str:
    """People per second: the median of the rounds (lowest - highest)."""
    return f"{people / statistics.median(seconds):.1f} ({people / max(seconds):.1f} - {people / min(seconds):.1f})"


def ratio(first: List[float], seconds: List[float]) -> str:
    """How many times as fast as the first, the median of the rounds."""
    return f"{statistics.median(a / b for a, b in zip(first, seconds)):.2f}"
