"""Drawn people by identity: the same person from other sides, in other steps and light, as Market-1501 names its crops.

    python3 -m demo.identities --output data/demo_reid

writes query/ and bounding_box_test/, names such as 0007_c2s1_000003_00.png: person 7, camera 2. A camera has a
background and a light of its own.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import math
import sys
from pathlib import Path
from typing import Optional, Sequence

import cv2
import numpy as np

from contract.arguments import HelpFormatter, at_least
from contract.files import make_folder, write_file
from contract.progress import Progress
from demo.figures import Person, turn
from demo.scenes import Canvas, expose, paint_background, paint_ground_shadow

TEST_SEED = 29  # of the people who are measured; demo/train_reid.py draws others
CAMERAS, VIEWS = 3, 2  # of each person, and crops of each
SIZE = (200, 140)  # of the picture a crop is cut out of: height, width
SHAKE = 0.03  # of a box's sides, as a detector's


def render_person(person: Sequence[int], view: Sequence[int], camera: Sequence[int]) -> np.ndarray:
    """(h, w, 3) uint8 RGB: who, how they stand or walk, and before what, each a function of its seed."""
    rng = np.random.default_rng(view)
    body = Person(np.random.default_rng(person), gait=rng.uniform(0, 2 * math.pi) if rng.random() < 0.7 else 0.0)
    height, width = SIZE
    body.project(turn(rng.uniform(0, 360), rng.uniform(2, 12), rng.normal(0, 2)), rng.uniform(0.7, 0.85) * height,
                 (width / 2, 0.5 * height))
    canvas = Canvas(paint_background(np.random.default_rng(camera), height, width))
    paint_ground_shadow(canvas.image, body)
    for part in body.parts:
        canvas.paint(part)
    x, y, w, h = cv2.boundingRect((canvas.owners > 0).astype(np.uint8))
    left, top, right, bottom = np.array([x, y, x + w, y + h]) + rng.normal(0, SHAKE, 4) * [w, h, w, h]
    image = expose(rng, canvas.image)
    return image[max(int(top), 0):max(int(bottom), int(top) + 8), max(int(left), 0):max(int(right), int(left) + 8)]


def write_people(output: Path, people: int, seed: int = TEST_SEED) -> None:
    """One crop of each person and camera to query, the others to the gallery, as Market-1501 has them."""
    for folder in ("query", "bounding_box_test"):
        make_folder(output / folder)
    for person in Progress(range(people), desc="people", unit="person"):
        for camera in range(1, CAMERAS + 1):
            for view in range(VIEWS):
                image = render_person([seed, person], [seed, person, camera, view], [seed, camera])
                name = f"{person + 1:04d}_c{camera}s1_{view:06d}_00.png"
                encoded = cv2.imencode(".png", image[..., ::-1])[1]
                write_file(output / ("bounding_box_test" if view else "query") / name, encoded)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m demo.identities", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--output", type=Path, default="data/demo_reid", help="of query/ and bounding_box_test/")
    parser.add_argument("--people", type=at_least(2), default=50, help="how many")
    parser.add_argument("--seed", type=at_least(0), default=TEST_SEED, help="another seed gives other people, such as "
                        "those to calibrate int8 on")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    write_people(args.output, args.people, args.seed)
    print(f"{args.output}: {args.people} people by {CAMERAS} cameras")


if __name__ == "__main__":
    sys.exit(exit_code(main))
