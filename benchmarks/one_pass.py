"""From photos and boxes to COCO results on this machine's CPU, by every way there is: people per second, AP, bytes.

    python3 benchmarks/one_pass.py --dataroot data/demo --checkpoint demo/fastpose_small.pth \\
        --cfg configs/demo_fastpose.yaml

A way is a target of run.py that runs on a CPU, one of its precisions, and two folders of bins or one pass. What it
needs is built once. Then every round runs preprocess.py, infer.py and postprocess.py of each way as processes, with
their starts, and every other round backwards. Each way is compared with the first by compare.py, within the gate of its
precision; the fastest of those that agree is named.
"""
from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from contract.arguments import HelpFormatter, at_least  # noqa: E402
from contract.errors import UserError  # noqa: E402
from contract.files import make_folder, read_json, write_file  # noqa: E402
from contract.manifest import bins_in  # noqa: E402
from contract.room import FP32, INT8, PRECISIONS  # noqa: E402
from contract.stage import Stage, stage  # noqa: E402
from contract.tables import format_table  # noqa: E402
from jobs.job import FLOAT32, UINT8, Job  # noqa: E402
from jobs.plan import plan  # noqa: E402
from jobs.targets import TARGETS, room_of  # noqa: E402
from jobs.validation import AGREES, comparison  # noqa: E402

TIMED = ("preprocess.py", "infer.py", "postprocess.py")
NOT_ON_A_CPU = ("gpu",)
CALIBRATION_PHOTOS = 100


class Way(NamedTuple):
    """One row of the table, and the wall seconds of its rounds."""

    job: Job
    stages: List[Stage]
    seconds: List[float]

    @property
    def label(self) -> str:
        return f"{self.job.target} {self.job.options.get('precision', 'fp32')}"

    @property
    def form(self) -> str:
        return "one pass" if self.job.one_pass else "two folders"


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--dataroot", type=Path, default=Path("data/demo"), help="photos and annotations")
    parser.add_argument("--detections", type=Path, help="boxes (default: detections.json of the data root)")
    parser.add_argument("--checkpoint", type=Path, default=Path("demo/fastpose_small.pth"), help="trained weights")
    parser.add_argument("--cfg", type=Path, default=Path("configs/demo_fastpose.yaml"), help="their config")
    parser.add_argument("--calibration", type=Path, help="data root whose annotated people int8 is calibrated on "
                        "(default: --dataroot, whose AP is then too good)")
    parser.add_argument("--targets", nargs="+", choices=[name for name in TARGETS if name not in NOT_ON_A_CPU],
                        help="default: all that are installed")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="those of a "
                        "target's own that are wanted")
    parser.add_argument("--batch", type=at_least(1), default=16, help="people per batch")
    parser.add_argument("--limit", type=at_least(1), help="only the first photos")
    parser.add_argument("--repeat", type=at_least(1), default=5, help="rounds")
    parser.add_argument("--work", type=Path, default=Path("runs/one_pass"), help="bins, models, results and table.md")
    return parser.parse_args(argv)


def ways_of(args: argparse.Namespace) -> List[Way]:
    """Of all targets that can run here. float32 of the first, in two folders, stands first: it is the reference."""
    names = args.targets or [name for name in TARGETS if name not in NOT_ON_A_CPU]
    ways = []
    for target in names:
        runner = next(iter(TARGETS[target]))
        room = room_of(target, runner)
        if room.missing_packages(runner):
            print(f"note: {target} is left out, because Python has no {room.missing_packages(runner)[0]}",
                  file=sys.stderr)
            continue
        for precision in room.options(target).get("precision", (FP32,)):
            if precision not in args.precision:
                continue
            for one_pass in ((False, True) if getattr(room, "ONE_PASS", False) else (False,)):
                ways.append(way_of(args, target, runner, precision, one_pass))
    if not ways:
        raise UserError(f"none of {', '.join(names)} is installed, or has the precision")
    return ways


def way_of(args: argparse.Namespace, target: str, runner: str, precision: str, one_pass: bool) -> Way:
    work = args.work.absolute() / f"{target}_{precision}_{'one_pass' if one_pass else 'two'}"
    detections = (args.detections or args.dataroot / "detections.json").absolute()
    dtype = UINT8 if one_pass else FLOAT32
    calibration = calibration_bins(args) if precision == INT8 else None
    options = {"precision": precision} if "precision" in room_of(target, runner).options(target) else {}
    job = Job(target=target, runner=runner, batch=args.batch, dataroot=args.dataroot.absolute(),
              checkpoint=args.checkpoint.absolute(), cfg=args.cfg.absolute(), weights=Path(), yolo_cfg=Path(),
              work=work, detections=detections, limit=args.limit, dtype=dtype,
              calibration=calibration, one_pass=one_pass, options=options)
    return Way(job, plan(job), [])


def calibration_bins(args: argparse.Namespace) -> Path:
    """Bins of annotated people of --calibration, which int8 takes its ranges from; made once."""
    bins = args.work.absolute() / "calibration"
    run(stage("preprocess.py", "--dataroot", args.calibration or args.dataroot, "--gt_boxes", "--no_flip", "--cfg",
              args.cfg, "--output", bins, "--limit", CALIBRATION_PHOTOS, "--replace"))
    return bins


def run(one: Stage) -> float:
    """Wall seconds of one process."""
    started = time.perf_counter()
    finished = subprocess.run([sys.executable, *one.command], cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode not in one.codes:
        raise UserError(f"{one.name}: {(finished.stderr.splitlines() or ['it failed'])[-1]}")
    return time.perf_counter() - started


def measure(ways: List[Way], repeat: int) -> Dict[str, str]:
    """Fill the ways' seconds; why each of those failed that did, which are left out from then on."""
    failed: Dict[str, str] = {}
    for number in range(repeat + 1):  # the first builds, and fills the page cache
        for way in ways if number % 2 == 0 else ways[::-1]:
            name = f"{way.label}, {way.form}"
            if name in failed:
                continue
            for folder in (way.job.bins(), way.job.bins(True), way.job.results):
                shutil.rmtree(folder, ignore_errors=True)
            try:
                seconds = sum(run(one) for one in way.stages if number == 0 or one.name in TIMED)
            except UserError as error:
                failed[name] = str(error)
                continue
            if number:
                way.seconds.append(seconds)
    return failed


def bytes_of(job: Job) -> int:
    """Of bins and dumps: each is written once, and read once by the next stage."""
    folders = [job.bins(), *job.all_dumps, *([job.bins(True)] if job.mirrors else [])]
    return sum(sum(bins_in(folder).values()) for folder in folders)


def row_of(way: Way, first: Way) -> Dict[str, Any]:
    """A row of the table; the ratio is the median of those of the rounds."""
    metrics = read_json(way.job.metrics, "metrics")
    people = metrics["people"]["boxes"]
    compared = comparison(first.job, way.job)
    code = subprocess.run([sys.executable, *compared.command], cwd=ROOT, capture_output=True, check=False).returncode
    return {"target": way.label, "bins": way.form,
            "people/s": f"{people / statistics.median(way.seconds):.1f} ({people / max(way.seconds):.1f} - "
                        f"{people / min(way.seconds):.1f})",
            "ratio": f"{statistics.median(a / b for a, b in zip(first.seconds, way.seconds)):.2f}",
            "bytes per person": bytes_of(way.job) // people, "AP": f"{metrics['metrics']['AP']:.4f}",
            "agrees": "-" if way is first else "yes" if code == AGREES else "NO"}


def main() -> None:
    args = parse_args()
    ways = ways_of(args)
    failed = measure(ways, args.repeat)
    done = [way for way in ways if way.seconds]
    if not done:
        raise UserError(next(iter(failed.values())))
    rows = [row_of(way, done[0]) for way in done]
    inside = [(statistics.median(way.seconds), row) for way, row in zip(done, rows) if row["agrees"] != "NO"]
    best = min(inside, key=lambda one: one[0])[1]
    text = "\n\n".join([format_table(list(rows[0]), [list(row.values()) for row in rows]),
                        *(f"{name}: left out: {reason}" for name, reason in failed.items()),
                        f"the fastest that agrees: {best['target']}, {best['bins']}"])
    write_file(make_folder(args.work) / "table.md", f"{text}\n".encode())
    print(text)


if __name__ == "__main__":
    sys.exit(exit_code(main))
