"""Draw the people of a keypoints file on their photographs, side by side.

    python3 -m demo.draw --keypoints ./runs/fastpose_small/results/cpu_bs16_score/keypoints.json \\
        --images 15 18 --output people.jpg

Bones of the left side are orange, of the right side blue, those between them white; joints that score no more than
pose.oks.SCORED_JOINT are left out, as they are in a person's score.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np

from contract.errors import UserError, exit_code
from contract.files import read_json, write_file
from pose.coco import BONES, photograph_path
from pose.crops import read_photograph
from pose.oks import SCORED_JOINT

HEIGHT = 480  # of the picture; photographs are scaled to it
LEFT, RIGHT, MIDDLE = (255, 140, 0), (60, 140, 255), (255, 255, 255)  # RGB
SUBPIXEL_BITS = 4
MIN_SCORE = 0.2  # people below are duplicates or not there, for most detectors


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--dataroot", default="./data/demo", help="folder with val2017/")
    parser.add_argument("--keypoints", required=True, help="keypoints.json of postprocess.py")
    parser.add_argument("--images", type=int, nargs="+", required=True, help="ids of the photographs")
    parser.add_argument("--output", required=True, help="picture to write, .jpg or .png")
    return parser.parse_args(argv)


def draw_person(image: np.ndarray, keypoints: np.ndarray) -> None:
    """Draw (17, 3) x, y, score on an RGB photograph, in place."""
    points = [tuple(np.round(point * 2 ** SUBPIXEL_BITS).astype(int).tolist()) for point in keypoints[:, :2]]
    shown = keypoints[:, 2] > SCORED_JOINT
    thickness = max(2, round(np.ptp(keypoints[shown, 1]) / 90)) if shown.any() else 2
    for one, other in BONES:
        if shown[one] and shown[other]:
            sides = {joint % 2 for joint in (one, other) if joint}  # of COCO's joints, odd ones are left
            color = MIDDLE if len(sides) != 1 else LEFT if sides == {1} else RIGHT
            cv2.line(image, points[one], points[other], color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    for point in (point for point, is_shown in zip(points, shown) if is_shown):
        cv2.circle(image, point, (thickness + 1) << SUBPIXEL_BITS, (30, 30, 30), -1, cv2.LINE_AA, SUBPIXEL_BITS)


def draw(dataroot: Path, people: List[Dict[str, Any]], images: List[int]) -> np.ndarray:
    """(HEIGHT, W, 3) RGB: the photographs with their people, from left to right."""
    pictures = []
    for image_id in images:
        image = read_photograph(photograph_path(dataroot, image_id))
        for person in people:
            if person["image_id"] == image_id and person["score"] > MIN_SCORE:
                draw_person(image, np.array(person["keypoints"]).reshape(-1, 3))
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
