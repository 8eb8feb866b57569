"""predict.py --track on rendered films: speed, overlap of its stages, and peak memory by length.

    python3 benchmarks/film.py

Renders a film of 60 s, 640x480, 30 frames a second, with 1 to 5 people in sight, and its first 10 s. They are kept in
--output for the next time. predict.py finds, follows and draws people on both, each as a process of its own, imports
and opening of the networks included. Then the stages work on the short film one after another, each on all frames
before the next begins. The overlap factor is how much longer that takes than predict.py, for as many frames.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Dict, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from contract.arguments import HelpFormatter, at_least  # noqa: E402
from contract.files import make_folder  # noqa: E402
from contract.progress import Progress  # noqa: E402
from contract.tables import format_table  # noqa: E402
from demo.walks import FPS, Film  # noqa: E402
from prediction.arguments import complete, parse_args  # noqa: E402
from prediction.assembly import make_finder, make_nms, make_poser, make_tracker  # noqa: E402
from prediction.pipeline import Pipeline, Settings  # noqa: E402
from prediction.sources import Video  # noqa: E402
from prediction.timing import one_after_another  # noqa: E402
from prediction.video import VideoWriter  # noqa: E402

SEED, PEOPLE = 6, 5


def render(path: Path, short: Path, frames: int, first: int) -> Tuple[int, int]:
    """Write the film, and its first frames as another; the fewest and most people in a frame."""
    film, counts = Film(SEED, frames, PEOPLE), []
    writers = [VideoWriter(one, Fraction(FPS), None) for one in (path, short)]
    for number in Progress(range(frames), unit="frame", desc="render"):
        frame = film.frame(number)
        counts.append(len(frame.ids))
        for writer in writers[:2 if number < first else 1]:
            writer.add(frame.image, number)
    for writer in writers:
        writer.close()
    return min(counts), max(counts)


def run(path: Path, output: Path) -> Tuple[float, float]:
    """Seconds and peak MiB of predict.py."""
    command = [sys.executable, ROOT / "predict.py", path, "--track", "--replace", "--output", output]
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def stages(path: Path, output: Path) -> Dict[str, float]:
    """Seconds of each stage of the same networks."""
    args = complete(parse_args([str(path), "--track"]))
    finder, poser = make_finder(args, False), make_poser(args, False)
    with Pipeline(finder, poser, Settings(make_nms(args, poser.spec.skeleton)), at_once=False) as pipeline:
        start = time.perf_counter()
        frames = list(Video(str(path), "").frames())
        decoding = time.perf_counter() - start
        works, seconds = one_after_another(pipeline, frames, make_tracker(args.track))
        start = time.perf_counter()
        writer = VideoWriter(output / "one_after_another.mp4", Fraction(FPS), None)
        for work in works:
            writer.add(work.drawn, work.frame.time)
        writer.close()
        return {"decode": decoding, **seconds, "encode": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--seconds", type=at_least(1), nargs=2, default=[10, 60], help="of the two films")
    parser.add_argument("--output", default="bench/film", help="folder of the films and of what predict.py makes")
    args = parser.parse_args()
    output, counts = make_folder(args.output), [FPS * seconds for seconds in sorted(args.seconds)]
    paths = [output / f"walks_{count}_frames.mp4" for count in counts]
    if not all(path.exists() for path in paths):
        print("{} to {} people in a frame".format(*render(paths[1], paths[0], counts[1], counts[0])))
    measured = [run(path, output / path.stem) for path in paths]
    print(format_table(["frames", "s", "frames/s", "peak MiB"], [
        [count, f"{seconds:.1f}", f"{count / seconds:.2f}", f"{peak:.0f}"]
        for count, (seconds, peak) in zip(counts, measured)]))
    alone = stages(paths[0], output)
    print(format_table(["stage", "ms a frame"], [[name, f"{1000 * seconds / counts[0]:.2f}"]
                                                 for name, seconds in {**alone, "sum": sum(alone.values())}.items()]))
    factor = sum(alone.values()) / counts[0] * counts[1] / measured[1][0]
    print(f"overlap factor {factor:.2f}: the stages one after another, over predict.py, for {counts[1]} frames on "
          f"{os.cpu_count()} cores")


if __name__ == "__main__":
    sys.exit(exit_code(main))
