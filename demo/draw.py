"""Draw the people of a keypoints file on their photographs, side by side.

    python3 -m demo.draw --keypoints ./runs/fastpose_small/results/cpu_bs16_score/keypoints.json \\
        --images 15 18 --output people.jpg
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np

from contract.errors import UserError
from contract.files import read_json, write_file
from pose.annotations import open_photos
from pose.drawing import draw_person

HEIGHT = 480  # of the picture; photographs are scaled to it
MIN_SCORE = 0.2  # people below are duplicates or not there, for most detectors


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--dataroot", default="./data/demo", help="folder with val2017/")
    parser.add_argument("--keypoints", required=True, help="keypoints.json of postprocess.py")
    parser.add_argument("--images", type=int, nargs="+", required=True, help="ids of the photographs")
    parser.add_argument("--output", required=True, help="picture to write, .jpg or .png")
    return parser.parse_args(argv)


def draw(dataroot: Path, people: List[Dict[str, Any]], images: List[int]) -> np.ndarray:
    """(HEIGHT, W, 3) RGB: the photographs with their people, from left to right."""
    photos, pictures = open_photos(dataroot), []
    for image_id in images:
        image = photos.read(image_id)
        for person in people:
            if person["image_id"] == image_id and person["score"] > MIN_SCORE:
                joints = np.array(person["keypoints"]).reshape(-1, 3)
                draw_person(image, joints[:, :2], joints[:, 2])
        width = round(image.shape[1] * HEIGHT / image.shape[0])
        pictures.append(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    return np.hstack(pictures)


def main() -> None:
    args = parse_args()
    picture = draw(Path(args.dataroot), read_json(args.keypoints, "keypoints"), args.images)
    suffix = Path(args.output).suffix
    if suffix not in (".jpg", ".png"):
        raise UserError(f"--output is {args.output}, expected a name that ends in .jpg or .png")
    write_file(args.output, cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])


if __name__ == "__main__":
    sys.exit(exit_code(main))
