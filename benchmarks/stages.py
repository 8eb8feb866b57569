"""Seconds, ratio to the floor, and peak memory of preprocess.py and postprocess.py, each as a process with its imports.

    python3 benchmarks/stages.py --dataroot ./data/coco

Takes photos of the data root, copies them under new names until there are PHOTOGRAPHS, and puts
BOXES_PER_PHOTOGRAPH boxes on each. The floor of preprocess.py decodes every photo once and writes the same bytes
to the same number of files; that of postprocess.py reads the same dumps. Both use as many threads as the stage.
"""
from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from contract.arguments import HelpFormatter  # noqa: E402
from contract.dumps import dump_name  # noqa: E402
from contract.files import make_folder, write_json  # noqa: E402
from contract.manifest import load_manifest  # noqa: E402
from contract.spec import row_bytes  # noqa: E402
from pose.annotations import annotations_path, load_annotations  # noqa: E402
from pose.photos import open_photos  # noqa: E402
from pose.spec import PoseSpec  # noqa: E402

PHOTOGRAPHS, BOXES_PER_PHOTOGRAPH = 116, 7  # 812 people, 7 to a photo as YOLOv3-SPP finds them at 0.1
WORKERS = os.cpu_count() or 1

PREPROCESS_FLOOR = """
import sys, os, cv2
from concurrent.futures import ThreadPoolExecutor
photographs, folders, files, size, workers = sys.argv[1], sys.argv[2:4], *map(int, sys.argv[4:7])
cv2.setNumThreads(1)
data = os.urandom(size)
for folder in folders:
    os.makedirs(folder)
def write(number):
    for folder in folders:
        with open(os.path.join(folder, "%012d.bin" % number), "wb") as file:
            file.write(data)
with ThreadPoolExecutor(workers) as pool:
    list(pool.map(cv2.imread, [entry.path for entry in os.scandir(photographs)]))
    list(pool.map(write, range(files)))
"""
POSTPROCESS_FLOOR = """
import sys, os, numpy
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(int(sys.argv[1])) as pool:
    for folder in sys.argv[2:]:
        for values in pool.map(lambda entry: numpy.fromfile(entry.path, numpy.float32).nbytes, os.scandir(folder)):
            pass
"""


def make_data_set(dataroot: Path, work: Path, photographs: int = PHOTOGRAPHS) -> None:
    """COCO layout with as many photos of `dataroot` under ids 1, 2, ... and random boxes on each."""
    rng = np.random.default_rng(0)
    content, there = load_annotations(dataroot).as_coco(), open_photos(dataroot).all()
    source = [image for image in content["images"] if image["id"] in there]
    images, detections, people = [], [], []
    make_folder(work / "val2017")
    make_folder(work / "annotations")
    by_image: Dict[int, List[dict]] = {}
    for person in content["annotations"]:
        by_image.setdefault(person["image_id"], []).append(person)
    for new_id in range(1, photographs + 1):
        image = source[new_id % len(source)]
        shutil.copyfile(there[image["id"]], work / "val2017" / f"{new_id:012d}.jpg")
        images.append({**image, "id": new_id, "file_name": f"{new_id:012d}.jpg"})
        people += [{**person, "image_id": new_id, "id": len(people) + number}
                   for number, person in enumerate(by_image.get(image["id"], []), start=1)]
        size = rng.uniform(0.1, 0.8, (BOXES_PER_PHOTOGRAPH, 2)) * (image["width"], image["height"])
        corner = rng.uniform(0, 1, size.shape) * ((image["width"], image["height"]) - size)
        detections += [{"image_id": new_id, "category_id": 1, "bbox": [*low.tolist(), *wh.tolist()], "score": 0.5}
                       for low, wh in zip(corner, size)]
    write_json(annotations_path(work), {**content, "images": images, "annotations": people})
    write_json(work / "detections.json", detections)


def make_dumps(prep_data: Path, folder: Path) -> None:
    """A dump of noise for each bin of `prep_data`."""
    manifest = load_manifest(prep_data / "manifest.json")
    noise = np.random.default_rng(1).random((len(manifest) + 1, *PoseSpec().heatmap_size), np.float32)
    make_folder(folder)
    for number, name in enumerate(manifest.bin_names):
        np.roll(noise, number, axis=0)[:len(PoseSpec().skeleton)].tofile(folder / dump_name(name))


def run(command: List[str]) -> Tuple[float, float]:
    """Wall seconds and peak MiB of one process, after earlier writes have reached the disk. It finds its modules
    compiled, as every run but a user's first does."""
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=compiled, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command[:3])} ...")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--dataroot", type=Path, default=Path("./data/demo"), help="folder with the photos")
    parser.add_argument("--work", type=Path, help="where 1.3 GB are written (default: a temporary folder)")
    parser.add_argument("--repeat", type=int, default=5, help="interleaved repetitions; medians are printed")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        measure(args.dataroot, Path(folder), args.repeat)


def measure(dataroot: Path, work: Path, repeat: int) -> None:
    make_data_set(dataroot, work)
    prep, flip, dumps, dumps_flip = (work / name for name in ("prep", "flip", "dumps", "dumps_flip"))
    people = PHOTOGRAPHS * BOXES_PER_PHOTOGRAPH
    stage = ["preprocess.py", "--dataroot", str(work), "--detections", str(work / "detections.json"),
             "--output", str(prep), "--output_flip", str(flip)]
    commands = {
        "preprocess.py": stage,
        "its floor": ["-c", PREPROCESS_FLOOR, str(work / "val2017"), str(work / "floor"), str(work / "floor_flip"),
                      str(people), str(row_bytes(PoseSpec().input_shape, "float32")), str(WORKERS)],
        "postprocess.py": ["postprocess.py", "--dataroot", str(work), "--manifest", str(prep / "manifest.json"),
                           "--dump_dir", str(dumps), "--dump_dir_flip", str(dumps_flip)],
        "the floor of that": ["-c", POSTPROCESS_FLOOR, str(WORKERS), str(dumps), str(dumps_flip)],
    }
    run(stage)
    make_dumps(prep, dumps)
    make_dumps(prep, dumps_flip)
    run(commands["postprocess.py"])  # compiles its modules
    seconds: Dict[str, List[float]] = {name: [] for name in commands}
    memory: Dict[str, float] = {}
    for _ in range(repeat):
        for name, command in commands.items():
            if name == "preprocess.py":
                for used in (prep, flip):
                    shutil.rmtree(used)
            for used in (work / "floor", work / "floor_flip"):
                shutil.rmtree(used, ignore_errors=True)
            elapsed, memory[name] = run(command)
            seconds[name].append(elapsed)
    report(seconds, memory, people)


def report(seconds: Dict[str, List[float]], memory: Dict[str, float], people: int) -> None:
    print(f"{people} people on {PHOTOGRAPHS} photos, {WORKERS} threads, medians of "
          f"{len(next(iter(seconds.values())))} (lowest - highest)\n")
    print("| process | seconds | ratio to the floor | peak MiB |\n| --- | --- | --- | --- |")
    names = list(seconds)
    for stage, floor in zip(names[::2], names[1::2]):
        ratio = statistics.median(a / b for a, b in zip(seconds[stage], seconds[floor]))
        for name, shown in ((stage, f"{ratio:.2f}"), (floor, "1")):
            values = seconds[name]
            print(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f}) | {shown} | "
                  f"{memory[name]:.0f} |")


if __name__ == "__main__":
    sys.exit(exit_code(main))
