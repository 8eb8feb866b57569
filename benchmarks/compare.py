"""Seconds, ratio to the floor, and peak memory of compare.py on many people, as a process with its imports.

    python3 benchmarks/compare.py --people 10000

Makes two folders of dumps, blobs about the joints of random people and the same with noise, with a manifest and
annotations in COCO's layout. compare.py measures tensors, heatmaps, keypoints, the COCO numbers and their bootstrap
interval; the floor reads both folders once with as many threads. Needs 0.42 MB of disk a person.
"""
from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from contract.script import exit_code  # noqa: E402

from stages import POSTPROCESS_FLOOR, WORKERS, run  # noqa: E402

from contract.arguments import HelpFormatter  # noqa: E402
from contract.dumps import dump_name  # noqa: E402
from contract.files import make_folder, write_json  # noqa: E402
from contract.manifest import Manifest, save_manifest  # noqa: E402
from pose.annotations import annotations_path  # noqa: E402
from pose.boxes import positions_to_image  # noqa: E402
from pose.coco import Detections  # noqa: E402
from pose.people import build_manifest  # noqa: E402
from pose.spec import PoseSpec  # noqa: E402

PEOPLE_A_PHOTOGRAPH = 4
BLOB = 2.0  # standard deviation of a peak, in cells, as in training
NOISE = 2e-4  # of b, as float16 leaves it; results that agree, so that no element is looked at twice


def make_people(count: int, rng: np.random.Generator) -> Manifest:
    corner, size = rng.uniform(0, 300, (count, 2)), rng.uniform(60, 200, (count, 2))
    ids = np.arange(count) // PEOPLE_A_PHOTOGRAPH + 1
    boxes = Detections(ids, np.concatenate([corner, size], axis=1), np.concatenate([corner, corner + size], axis=1),
                       rng.uniform(0.3, 1, count))
    return build_manifest(boxes, "", PoseSpec())


def make_data(work: Path, count: int) -> None:
    """manifest.json, annotations/, a/ and b/ below `work`."""
    rng = np.random.default_rng(0)
    manifest = make_people(count, rng)
    joints, height, width = manifest.tensors.outputs["output"]
    peaks = rng.uniform(8, 40, (count, joints, 2))
    noise = NOISE * rng.standard_normal((joints, height, width)).astype(np.float32)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    for name in ("a", "b", "annotations"):
        make_folder(work / name)
    for number, name in enumerate(manifest.bin_names):
        x, y = peaks[number].T[:, :, None, None]
        blobs = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * BLOB ** 2)).astype(np.float32)
        blobs *= np.float32(manifest["score"][number])
        blobs.tofile(work / "a" / dump_name(name))
        (blobs + np.roll(noise, number, axis=2)).tofile(work / "b" / dump_name(name))
    save_manifest(work, manifest)
    write_json(annotations_path(work), annotations(manifest, positions_to_image(
        peaks + rng.normal(0, 2, peaks.shape), manifest["crop_xyxy"], (height, width))), indent=0)


def annotations(manifest: Manifest, keypoints: np.ndarray) -> Dict[str, List[dict]]:
    images = sorted(set(manifest["image_id"].tolist()))
    people = [{"id": number + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": bbox, "num_keypoints": 17,
               "area": 0.5 * bbox[2] * bbox[3], "keypoints": [value for x, y in person for value in (x, y, 2)]}
              for number, (image, bbox, person) in enumerate(zip(
                  manifest["image_id"].tolist(), manifest["bbox_xywh"].tolist(), keypoints.tolist()))]
    return {"images": [{"id": image, "width": 500, "height": 500} for image in images], "annotations": people,
            "categories": [{"id": 1, "name": "person"}]}


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--people", type=int, default=10000, help="rows of each folder")
    parser.add_argument("--repeat", type=int, default=3, help="interleaved repetitions")
    parser.add_argument("--work", help="folder for the temporary data (default: the system's)")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        make_data(Path(folder), args.people)
        compare = ["compare.py", f"{folder}/a", f"{folder}/b", "--manifest", f"{folder}/manifest.json", "--dataroot",
                   folder]
        commands = {"tensors, keypoints, AP": [*compare, "--bootstrap", "0"], "and the interval of AP": compare,
                    "reading both folders": ["-c", POSTPROCESS_FLOOR, str(WORKERS), f"{folder}/a", f"{folder}/b"]}
        measured: Dict[str, List[tuple]] = {name: [] for name in commands}
        for command in commands.values():  # both once, so that neither finds the disk's cache colder
            run(command)
        for _ in range(args.repeat):
            for name, command in commands.items():
                measured[name].append(run(command))
    report(measured, args.people)


def report(measured: Dict[str, List[tuple]], people: int) -> None:
    seconds = {name: [second for second, _ in runs] for name, runs in measured.items()}
    floor = seconds["reading both folders"]
    print(f"{people} people, {WORKERS} threads, medians of {len(floor)} (lowest - highest)\n")
    print("| process | seconds | ratio | peak MiB |\n| --- | --- | --- | --- |")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, floor))
        print(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f}) | {ratio:.2f} | "
              f"{max(memory for _, memory in measured[name]):.0f} |")


if __name__ == "__main__":
    sys.exit(exit_code(main))
