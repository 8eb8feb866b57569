"""predict.py on Ray against predict.py in one process, on the same images: same bytes, overhead, and losses.

    python3 benchmarks/cluster.py --work ./runs/cluster --images 2000 --real ./data/coco/val2017

Ray runs two nodes on this machine, with one CPU each. One process, with one thread for each network as a worker has,
and each number of workers take turns. Predicted is the model of docs/scale.md. With --losses N, a worker and then a
node are killed in each of N runs, at random moments between the first shard that is done and the last but one. With
--poisoned every 50th image cannot be read.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from cluster.pretended import WORKER, column, nodes_here, poison, workers_here  # noqa: E402
from contract.arguments import HelpFormatter, at_least  # noqa: E402
from contract.errors import UserError  # noqa: E402
from contract.files import make_folder  # noqa: E402
from contract.tables import format_row, format_table  # noqa: E402
from contract.threads import cpu_limit  # noqa: E402
from demo.render import render  # noqa: E402

FILES = ("people.jsonl", "alphapose-results.json")
CPUS = cpu_limit() or os.cpu_count() or 1
SEED, AGAIN, EVERY, REAL = 11, 1, 50, 10 ** 6  # the ids of real photos begin at REAL
OF_RUN = ("failed", "at work", "detector at work", "pose network at work", "largest worker")  # columns of predict.py
LEAST_SHARDS = 4  # of a run with losses: one is done before them, one is left after them
KINDS = (PREDICT, WORKERS, RAY, OTHERS) = ("predict.py", "workers", "Ray itself", "other programs")
LOOK = 0.5  # seconds between two looks at all processes
NETWORKS = ("detect", "pose")  # stages that are a network, each on a thread of its own


class Timed(NamedTuple):
    """A run: seconds, CPU seconds by KINDS, and what it printed."""

    seconds: float
    cpu: Dict[str, float]
    output: str

    def own(self, workers: int) -> float:
        """CPU seconds of one process without the cluster that waits beside it, or of a run on the cluster."""
        return self.cpu[PREDICT] + (self.cpu[WORKERS] + self.cpu[RAY] if workers else 0)


class Lost(NamedTuple):
    """A run with losses: its row of the table, and whether both came while shards were done and others missing."""

    row: List[str]
    is_timely: bool


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of images and results")
    parser.add_argument("--images", type=at_least(1), default=2000, help="how many: real ones, and rendered ones for "
                        "the rest")
    parser.add_argument("--real", type=Path, metavar="DIR", help="a folder of photos whose names are numbers")
    parser.add_argument("--poisoned", action="store_true", help=f"every {EVERY}th image is empty, cut short or giant; "
                        "all of them must be listed")
    parser.add_argument("--workers", type=at_least(1), nargs="*", default=[1, 2, 4], help="numbers of workers")
    parser.add_argument("--turns", type=at_least(1), default=AGAIN, help="turns of each; the median is printed")
    parser.add_argument("--shard", type=at_least(1), default=64, help="images per shard")
    parser.add_argument("--losses", type=int, default=0, metavar="N", help="runs in which a worker and a node are "
                        "killed")
    return parser.parse_args(argv)


def make_images(args: argparse.Namespace) -> Path:
    """The folder of them: rendered ones from 1, and copies of the real ones from REAL."""
    real = sorted(args.real.glob("*.jpg"))[:args.images] if args.real else []
    render(args.work / "images", args.images - len(real), SEED)
    folder = args.work / "images" / "val2017"
    for photo in real:
        shutil.copy(photo, folder / f"{REAL + int(photo.stem):012d}.jpg")
    if args.poisoned:
        print(f"{len(poison(folder, EVERY))} images are spoilt")
    return folder


class Campaign:
    """Runs of predict.py on the same images, on a cluster or in one process."""

    def __init__(self, args: argparse.Namespace, cluster: Any):
        self.work, self.shard, self.cluster = args.work, args.shard, cluster
        self.images = make_images(args)
        self.shards = -(-len(list(self.images.iterdir())) // args.shard)
        self.alone = args.work / "alone"

    def launch(self, images: Path, output: Path, workers: int, shard: int) -> subprocess.Popen:
        shutil.rmtree(output, ignore_errors=True)
        how = ["--distributed", "auto", "--workers", str(workers), "--shard", str(shard)] if workers \
            else ["--no-save_img", "--profile"]
        return subprocess.Popen([sys.executable, "predict.py", str(images), "--format", "coco", "--output",
                                 str(output), *how], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env={**os.environ, "OMP_NUM_THREADS": "1",
                                                "RAY_ADDRESS": self.cluster.address})

    def run(self, workers: int = 0) -> Timed:
        """0 workers is one process without Ray, whose results are those that all others must have."""
        output = self.work / f"workers{workers}" if workers else self.alone
        run = timed(lambda: self.launch(self.images, output, workers, self.shard))
        self.compare(output)
        return run

    def start(self, workers: int = 0) -> Timed:
        """A run of one image for each worker: how long it takes to start, and to end."""
        few = self.work / "few"
        shutil.rmtree(few, ignore_errors=True)
        for image in sorted(self.images.iterdir())[:max(workers, 1)]:
            shutil.copy(image, make_folder(few))
        return timed(lambda: self.launch(few, self.work / "started", workers, 1))

    def compare(self, output: Path) -> None:
        for name in FILES:
            if (output / name).read_bytes() != (self.alone / name).read_bytes():
                raise UserError(f"{output / name}: differs from that of one process with as many threads")

    def lose(self, dice: np.random.Generator, interval: float) -> Lost:
        """A run in which a worker and then a node are killed, at moments between the first shard that is done and the
        last but one: a drawn number of shards is done, and a drawn part of `interval` seconds has passed since."""
        output = self.work / "lost"
        process, start = self.launch(self.images, output, 2, self.shard), time.monotonic()
        moments, is_timely = [], True
        for moment, kill in zip(np.sort(dice.uniform(1, self.shards - 1, 2)), (self.kill_worker, self.kill_node)):
            self.wait(process, output, int(moment), moment % 1 * interval)
            victim = kill(dice)
            done = shards_in(output)
            is_timely &= process.poll() is None and 0 < done < self.shards and bool(victim)
            moments.append(f"{time.monotonic() - start:.1f} s, {done} of {self.shards} done, {victim or 'nobody'}")
        told = finished(process)
        self.compare(output)
        while len(self.cluster.list_all_nodes()) < 2:
            self.cluster.add_node(num_cpus=1)
        return Lost([*moments, f"{time.monotonic() - start:.1f} s", column(told, "restarted")], is_timely)

    def wait(self, process: subprocess.Popen, output: Path, count: int, seconds: float) -> None:
        """Until `count` shards are done and, unless only one is missing by then, `seconds` more have passed."""
        due = time.monotonic() + seconds
        while process.poll() is None:
            done = shards_in(output)
            if done < count:
                due = time.monotonic() + seconds
            elif done >= self.shards - 1 or time.monotonic() >= due:
                break
            time.sleep(0.01)

    def kill_worker(self, dice: np.random.Generator) -> str:
        alive = workers_here()
        if not alive:
            return ""
        os.kill(int(dice.choice(alive)), signal.SIGKILL)
        return f"1 of {len(alive)} workers"

    def kill_node(self, dice: np.random.Generator) -> str:
        """That on which the head of the cluster is not."""
        node, before = list(self.cluster.worker_nodes)[-1], len(workers_here())
        self.cluster.remove_node(node, allow_graceful=False)
        return f"with {before - len(workers_here())} of {before} workers"


def shards_in(output: Path) -> int:
    return len(list(output.glob("shards/*.jsonl")))


def finished(process: subprocess.Popen) -> str:
    output, errors = process.communicate()
    if process.returncode:
        raise UserError(f"predict.py ended with {process.returncode}: {errors[-500:]}")
    return output


def timed(launch: Callable[[], subprocess.Popen]) -> Timed:
    """A run, and the CPU seconds of all programs meanwhile. Those of a process of Ray that ends are known up to LOOK
    seconds before."""
    before, there, start = resource.getrusage(resource.RUSAGE_CHILDREN), look(), time.monotonic()
    busy, seen, ended = busy_seconds(), dict(there), threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK):
            seen.update(look())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        output = finished(launch())
    finally:
        ended.set()
        watching.join()
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = dict.fromkeys(KINDS, 0.0)
    cpu[PREDICT] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    for number, (kind, spent) in {**seen, **look()}.items():
        cpu[kind] += (spent - there.get(number, ("", 0.0))[1]) * (kind != PREDICT)
    cpu[OTHERS] = busy_seconds() - busy - sum(cpu.values())
    return Timed(seconds, cpu, output)


def look() -> Dict[int, Tuple[str, float]]:
    """Kind and CPU seconds of each process that this one has started, or one of those, by its number."""
    import psutil  # comes with Ray

    seen = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times, command = process.cpu_times(), " ".join(process.cmdline())
            kind = WORKERS if command.startswith(WORKER) else PREDICT if PREDICT in command else RAY
            seen[process.pid] = kind, times.user + times.system
    return seen


def busy_seconds() -> float:
    """CPU seconds that all programs of this machine have used."""
    import psutil

    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait


def predicted(count: int, alone: Timed, one: Timed, start: Timed, workers: int) -> float:
    """Images per second of a run that takes `start` for an image per worker: then each worker has a thread for each
    network, and all share the CPUs. `alone` and `one` are one process with all images, and with one."""
    network = max(float(re.search(rf"{stage} +([\d.]+) s at work", alone.output)[1]) for stage in NETWORKS)
    cpu = alone.own(0) - one.own(0)
    return count / (start.seconds + max(network / workers, cpu / CPUS))


def compare_speeds(campaign: Campaign, numbers: List[int], turns: int) -> str:
    starts = {number: campaign.start(number) for number in (0, *numbers)}
    runs: Dict[int, List[Timed]] = {number: [] for number in starts}
    for _ in range(turns):
        for number, times in runs.items():
            times.append(campaign.run(number))
    count = sum(1 for _ in open(campaign.alone / FILES[0], "rb")) - 2  # settings and end
    medians = {number: statistics.median(run.seconds for run in times) for number, times in runs.items()}
    speeds, cpus = [], []
    for number, seconds in medians.items():
        name, start, run = f"{number} on Ray" if number else "one process", starts[number], runs[number][-1]
        rate = predicted(count, runs[0][0], starts[0], start, max(number, 1))
        speeds.append([name, f"{start.seconds:.1f}", f"{seconds:.1f}", f"{count / seconds:.1f}", f"{rate:.1f}",
                       f"{seconds / medians[0] - 1:+.0%}",
                       *(column(run.output, title) if number else "-" for title in OF_RUN)])
        cpus.append([name, f"{start.own(number):.1f}", *(f"{run.cpu[kind]:.1f}" for kind in (PREDICT, WORKERS, RAY)),
                     f"{1000 * (run.own(number) - start.own(number)) / count:.1f}",
                     f"{run.cpu[OTHERS] / run.seconds:.2f}"])
    return "\n\n".join([
        format_table(["workers", "start, s", "seconds", "images/s", "predicted images/s", "against one process",
                      *OF_RUN], speeds),
        format_table(["CPU seconds", "of a start", PREDICT, WORKERS, RAY, "ms per image", "CPUs of other programs"],
                     cpus)])


def lose_often(campaign: Campaign, runs: int) -> str:
    if campaign.shards < LEAST_SHARDS:
        raise UserError(f"{campaign.shards} shards, expected at least {LEAST_SHARDS} for --losses. Give more --images, "
                        "or a smaller --shard")
    seconds = campaign.run(2).seconds
    print(f"undisturbed, 2 workers take {seconds:.1f} s", flush=True)
    print(format_table(["run", "worker killed", "node killed", "took", "restarted"], []), flush=True)
    dice, timely = np.random.default_rng(SEED), 0
    for number in range(1, runs + 1):
        lost = campaign.lose(dice, seconds / campaign.shards)
        print(format_row([number, *lost.row]), flush=True)
        timely += lost.is_timely
    return f"{runs} runs: the bytes of one process; in {timely} both losses came in mid-work"


def main() -> None:
    args = parse_args()
    with nodes_here() as cluster:
        campaign = Campaign(args, cluster)
        print(compare_speeds(campaign, args.workers, args.turns), flush=True)
        print(f"all runs: the bytes of one process, {', '.join(FILES)}")
        if args.losses:
            print(lose_often(campaign, args.losses))


if __name__ == "__main__":
    sys.exit(exit_code(main))
