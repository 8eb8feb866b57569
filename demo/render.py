"""Render synthetic photos of people with COCO annotations and detections, the same bytes for the same seed.

    python3 -m demo.render --output data/demo

writes val2017/*.jpg, annotations/person_keypoints_val2017.json, detections.json (AlphaPose's format: jittered,
duplicated and false boxes) and, when all else is whole, settings.json.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from numpy.random import Generator

from contract.arguments import HelpFormatter, parse
from contract.files import (
    make_folder,
    read_json,
    remove_file,
    sha256_of_file,
    sha256_of_rows,
    write_file,
    write_json,
)
from contract.progress import Progress
from demo.scenes import Scene, render_scene
from pose.skeleton import COCO17

TEST_SEED = 17  # of the data set that is measured; demo/train.py draws from another
VERSION = 1  # of the renderer: a data set of another one is rendered anew
SKELETON = ((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10),
            (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7))  # COCO's own, counted from 1
JPEG_QUALITY = 92


def detect(rng: Generator, scene: Scene) -> List[Tuple[List[float], float]]:
    """What a detector might say: each person's box shaken, some twice, some boxes on nothing; (bbox_xywh, score)."""
    height, width = scene.image.shape[:2]
    found = []
    for box in scene.bbox_xywh:
        for shake in (0.03,) if rng.random() < 0.7 else (0.03, 0.08):
            corners = np.array([*box[:2], *(box[:2] + box[2:])]) + rng.normal(0, shake, 4) * np.tile(box[2:], 2)
            found.append((corners, rng.uniform(0.75, 1.0) - 4 * shake))
    for _ in range(rng.poisson(0.6)):
        tall = rng.uniform(0.1, 0.5) * height
        start = rng.uniform(0, 1, 2) * [width, height] - tall / 4
        corners = np.array([*start, start[0] + tall * rng.uniform(0.3, 0.8), start[1] + tall])
        found.append((corners, rng.uniform(0.1, 0.5)))
    boxes = [np.clip(corners, 0, [width, height, width, height]) for corners, _ in found]
    return [([round(float(value), 2) for value in (*box[:2], *(box[2:] - box[:2]))], round(float(score), 4))
            for box, (_, score) in zip(boxes, found)]


def annotate(scene: Scene, image_id: int, first_id: int) -> List[Dict[str, Any]]:
    """COCO person annotations. `area` is the whole silhouette's, also where somebody stands before it."""
    return [{"id": first_id + row, "image_id": image_id, "category_id": 1, "iscrowd": 0,
             "bbox": [float(value) for value in box], "area": float(area),
             "num_keypoints": int((keypoints[:, 2] > 0).sum()),
             "keypoints": [int(value) if value == int(value) else float(value) for value in keypoints.reshape(-1)]}
            for row, (keypoints, box, area) in enumerate(zip(scene.keypoints, scene.bbox_xywh, scene.areas))]


def render(output: Path, images: int, seed: int) -> None:
    """Write a data set, unless the same one is already there, every file with the bytes that were written."""
    settings = {"renderer": VERSION, "images": images, "seed": seed}
    record = output / "settings.json"
    if record.exists() and read_json(record, "settings") == {**settings, "files_sha256": _digest(output)}:
        print(f"{output}: {images} images of seed {seed} are already there")
        return
    remove_file(record)
    folder = make_folder(output / "val2017")
    entries: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    detections: List[Dict[str, Any]] = []
    for image_id in Progress(range(1, images + 1), desc="rendering", unit="image"):
        scene = render_scene([seed, image_id])
        name = f"{image_id:012d}.jpg"
        ok, data = cv2.imencode(".jpg", scene.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        write_file(folder / name, data)
        height, width = scene.image.shape[:2]
        entries.append({"id": image_id, "file_name": name, "height": height, "width": width})
        annotations += annotate(scene, image_id, len(annotations) + 1)
        detections += [{"image_id": image_id, "category_id": 1, "bbox": box, "score": score}
                       for box, score in detect(np.random.default_rng([seed, image_id, 1]), scene)]
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": COCO17.joints, "skeleton": SKELETON}
    write_json(make_folder(output / "annotations") / "person_keypoints_val2017.json",
               {"images": entries, "annotations": annotations, "categories": [category]}, indent=None)
    write_json(output / "detections.json", detections, indent=None)
    write_json(record, {**settings, "files_sha256": _digest(output)})


def _digest(output: Path) -> str:
    """Of the names and bytes of a data set's files."""
    files = sorted([*output.glob("val2017/*"), *output.glob("annotations/*"), *output.glob("detections.json")])
    return sha256_of_rows((path.name, sha256_of_file(path)) for path in files)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--images", type=int, default=60, help="number of pictures")
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="another seed gives other pictures")
    args = parse(parser, argv)
    for name, least in (("images", 1), ("seed", 0)):
        if getattr(args, name) < least:
            parser.error(f"--{name} is {getattr(args, name)}, expected at least {least}")
    return args


def main() -> None:
    args = parse_args()
    render(args.output, args.images, args.seed)


if __name__ == "__main__":
    sys.exit(exit_code(main))
