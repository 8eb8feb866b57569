"""Seconds, peak memory, and ratio to two floors of preprocess.py and postprocess.py, processes with their imports.

    python3 benchmarks/stages.py --dataroot ./data/coco

Takes photos of the data root, copies them under new names until there are PHOTOGRAPHS, and puts
BOXES_PER_PHOTOGRAPH boxes on each. The floors do less than the stage, with as many threads. Of preprocess.py the
first decodes every photo once and writes the same number of bytes to the same number of files; the second also lets
OpenCV cut as many crops. Of postprocess.py the first reads the same dumps; the second also lets pycocotools score what
the stage has written.
"""
from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
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
from contract.tables import format_table  # noqa: E402
from pose.annotations import annotations_path, load_annotations  # noqa: E402
from pose.photos import open_photos  # noqa: E402
from pose.spec import PoseSpec  # noqa: E402

PHOTOGRAPHS, BOXES_PER_PHOTOGRAPH = 116, 7  # 812 people, 7 to a photo as YOLOv3-SPP finds them at 0.1
WORKERS = os.cpu_count() or 1

PREPROCESS_FLOOR = """
import sys, os, cv2
from concurrent.futures import ThreadPoolExecutor
photographs, folders, files, size, workers, crops = sys.argv[1], sys.argv[2:4], *map(int, sys.argv[4:8])
cv2.setNumThreads(1)
data, place = os.urandom(size), cv2.getRotationMatrix2D((200, 200), 0, 0.6)
for folder in folders:
    os.makedirs(folder)
def read(path):
    photograph = cv2.imread(path)
    for _ in range(crops):
        cv2.warpAffine(photograph, place, (192, 256), flags=cv2.INTER_LINEAR)
def write(number):
    for folder in folders:
        with open(os.path.join(folder, "%012d.bin" % number), "wb") as file:
            file.write(data)
with ThreadPoolExecutor(workers) as pool:
    list(pool.map(read, [entry.path for entry in os.scandir(photographs)]))
    list(pool.map(write, range(files)))
"""
POSTPROCESS_FLOOR = """
import sys, os, numpy
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(int(sys.argv[1])) as pool:
    for folder in sys.argv[2:4]:
        for values in pool.map(lambda entry: numpy.fromfile(entry.path, numpy.float32).nbytes, os.scandir(folder)):
            pass
if sys.argv[4:]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    annotations = COCO(sys.argv[4])
    evaluation = COCOeval(annotations, annotations.loadRes(sys.argv[5]), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
"""
# Linux begins a process's peak with that of the process that starts it, which therefore must be small.
SMALL_PARENT = """
import os, sys, time
nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
start = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere), 0)
print(time.perf_counter() - start, usage.ru_maxrss / 1024)
sys.exit(status != 0)
"""
FILES, LIBRARIES = "files alone", "files and libraries"


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
    finished = subprocess.run([sys.executable, "-S", "-c", SMALL_PARENT, sys.executable, *command], cwd=ROOT,
                              env=compiled, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"failed: {' '.join(command[:3])} ...")
    seconds, peak = map(float, finished.stdout.split())
    return seconds, peak


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
    decode = ["-c", PREPROCESS_FLOOR, str(work / "val2017"), str(work / "floor"), str(work / "floor_flip"), str(people),
              str(row_bytes(PoseSpec().input_shape, "float32")), str(WORKERS)]
    read = ["-c", POSTPROCESS_FLOOR, str(WORKERS), str(dumps), str(dumps_flip)]
    commands = {
        "preprocess.py": stage,
        f"preprocess.py, {FILES}": [*decode, "0"],
        f"preprocess.py, {LIBRARIES}": [*decode, str(BOXES_PER_PHOTOGRAPH)],
        "postprocess.py": ["postprocess.py", "--dataroot", str(work), "--manifest", str(prep / "manifest.json"),
                           "--dump_dir", str(dumps), "--dump_dir_flip", str(dumps_flip)],
        f"postprocess.py, {FILES}": read,
        f"postprocess.py, {LIBRARIES}": [*read, str(annotations_path(work)), f"{dumps}_score/keypoints.json"],
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
    rows = []
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[name.split(", ")[0]], values))
        rows.append([name, f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})", f"{ratio:.2f}",
                     f"{memory[name]:.0f}"])
    print(format_table(["process", "seconds", "the stage takes as many times", "peak MiB"], rows))


if __name__ == "__main__":
    sys.exit(exit_code(main))
