"""predict.py on Ray against predict.py in one process, on the same pictures: bytes, overhead, and 1, 2, 4 workers.

    python3 benchmarks/cluster.py --work ./runs/cluster --pictures 2000

One process and each number of workers take turns. Predicted is what the CPU time of one process allows: as many
pictures per second as the CPUs have seconds for, plus the start of Ray. --lost_workers N also kills a worker, N times.
"""
from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from contract.arguments import HelpFormatter, at_least  # noqa: E402
from contract.errors import UserError  # noqa: E402
from contract.tables import format_table  # noqa: E402
from contract.threads import cpu_limit  # noqa: E402
from demo.render import render  # noqa: E402

FILES = ("people.jsonl", "alphapose-results.json")
CPUS = cpu_limit() or os.cpu_count() or 1
SEED, AGAIN = 11, 3


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of pictures and results")
    parser.add_argument("--pictures", type=at_least(1), default=2000, help="rendered pictures")
    parser.add_argument("--images", help="a folder of pictures instead")
    parser.add_argument("--workers", type=at_least(1), nargs="+", default=[1, 2, 4], help="numbers of workers")
    parser.add_argument("--turns", type=at_least(1), default=AGAIN, help="turns of each; the median is printed")
    parser.add_argument("--lost_workers", type=int, default=0, metavar="N", help="runs in which a worker is killed")
    return parser.parse_args(argv)


def predict(pictures: str, output: Path, workers: int = 0) -> Tuple[float, float]:
    """Seconds, and CPU seconds, of one run; 0 workers is one process without Ray."""
    shutil.rmtree(output, ignore_errors=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = launch(pictures, output, workers)
    _, errors = process.communicate()
    if process.returncode:
        raise UserError(f"predict.py ended with {process.returncode}: {errors[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def launch(pictures: str, output: Path, workers: int) -> subprocess.Popen:
    how = ["--distributed", "local", "--workers", str(workers)] if workers else ["--no-save_img"]
    threads = {"OMP_NUM_THREADS": str(max(1, CPUS // max(workers, 1)))}  # as Ray gives each worker
    return subprocess.Popen([sys.executable, "predict.py", pictures, "--output", str(output), *how], cwd=ROOT,
                            env={**os.environ, **threads}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def assert_same(output: Path, alone: Path) -> None:
    for name in FILES:
        if (output / name).read_bytes() != (alone / name).read_bytes():
            raise UserError(f"{output / name}: differs from that of one process with as many threads")


def lose_a_worker(pictures: str, output: Path, alone: Path, dice: np.random.Generator) -> None:
    shutil.rmtree(output, ignore_errors=True)
    process = launch(pictures, output, 2)
    alive: List[int] = []
    while not alive and process.poll() is None:
        time.sleep(0.1)
        alive = workers_of_ray()
    time.sleep(dice.uniform(0, 5))
    alive = workers_of_ray()
    if alive:
        os.kill(int(dice.choice(alive)), signal.SIGKILL)
    process.communicate()
    if process.returncode:
        raise UserError(f"predict.py ended with {process.returncode} after a worker was killed")
    assert_same(output, alone)


def workers_of_ray() -> List[int]:
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if re.search(r"ray::MapWorker", line)]


def main() -> None:
    args = parse_args()
    if not args.images:
        render(args.work / "pictures", args.pictures, SEED)
    pictures = args.images or str(args.work / "pictures" / "val2017")
    seconds: Dict[int, List[float]] = {number: [] for number in (0, *args.workers)}
    cpu = 0.0
    for _ in range(args.turns):
        for number, times in seconds.items():
            elapsed, used = predict(pictures, args.work / f"workers{number}", number)
            times.append(elapsed)
            cpu = cpu or used  # of the first, one process
    count = sum(1 for line in open(args.work / "workers0" / FILES[0], "rb")) - 2
    alone = statistics.median(seconds[0])
    rows = []
    for number, times in seconds.items():
        middle = statistics.median(times)
        rows.append([f"{number} on Ray" if number else "one process", f"{middle:.1f}", f"{count / middle:.1f}",
                     f"{count / (cpu / CPUS):.1f}", f"{middle / alone:.2f} ({min(times) / alone:.2f} to "
                     f"{max(times) / alone:.2f})"])
    print(format_table(["workers", "seconds", "pictures/s", "predicted pictures/s", "against one process"], rows))
    if 1 in seconds:  # it has as many threads as one process
        assert_same(args.work / "workers1", args.work / "workers0")
    dice = np.random.default_rng(SEED)
    reference = args.work / "lost_alone"
    if args.lost_workers:
        predict(pictures, reference, 2)
    for _ in range(args.lost_workers):
        lose_a_worker(pictures, args.work / "lost", reference, dice)
    if args.lost_workers:
        print(f"{args.lost_workers} runs in which a worker was killed: same bytes")


if __name__ == "__main__":
    sys.exit(exit_code(main))
