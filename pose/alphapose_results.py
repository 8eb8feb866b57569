"""AlphaPose's result files: `alphapose-results.json` in the formats default, cmu and open, and sep-json/.

Also COCO's own results format. Every writer takes images one after another, so a video of any length fits in memory.
A joint is x, y, score; positions are pixels of the image.
"""
from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np

from contract.errors import UserError
from pose.coco import PERSON
from pose.oks import rescore
from pose.poses import People

VERSION = "AlphaPose v0.3"
NECK = 17  # appended to COCO's joints: between the shoulders
OPENPOSE_ORDER = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)  # of the 18 joints of cmu and open


class Format(NamedTuple):
    describe: Callable[[Any, People], Any]  # of an image's name or number, and its people
    by_name: bool  # the file is an object with a key for each image, and not a list of people


def image_number(name: str) -> int:
    """The integer after the last underscore of a file's stem, as AlphaPose's --eval reads it.

    Raises UserError for a name without one.
    """
    match = re.fullmatch(r"(?:.*_)?(\d+)", PurePosixPath(name).stem, re.ASCII)
    if not match:
        raise UserError(f"{name}: expected a name that ends in a number, such as 000000000139.jpg, because these "
                        "results name images by number. Rename it, or leave out --eval and --format coco")
    return int(match[1])


def default_people(image: Any, people: People) -> List[Dict[str, Any]]:
    """AlphaPose's own records. `idx` is the id of a tracked person, else a 0 for each pose that was joined."""
    return [{"image_id": image, "category_id": PERSON, "keypoints": joints, "score": score, "box": box, "idx": idx}
            for joints, score, box, idx in zip(people.joint_rows.tolist(), people.person_scores.tolist(),
                                               people.boxes_xywh.tolist(), _idx(people))]


def coco_people(image: Any, people: People) -> List[Dict[str, Any]]:
    """COCO's keypoint results, with the score by which AlphaPose is evaluated (`pose.oks.rescore`)."""
    scores = rescore(people.scores, people.box_scores.astype(np.float64))
    return [{"image_id": image, "category_id": PERSON, "keypoints": joints, "score": score, "bbox": box}
            for joints, score, box in zip(people.joint_rows.tolist(), scores.tolist(), people.boxes_xywh.tolist())]


def cmu_image(image: Any, people: People) -> Dict[str, Any]:
    return {"version": VERSION, "bodies": [{"joints": joints} for joints in _openpose_joints(people)]}


def open_image(image: Any, people: People) -> Dict[str, Any]:
    return {"version": VERSION, "people": [{"pose_keypoints_2d": joints} for joints in _openpose_joints(people)]}


FORMATS = {"default": Format(default_people, False), "cmu": Format(cmu_image, True), "open": Format(open_image, True),
           "coco": Format(coco_people, False)}


def results_text(images: Iterable[Tuple[str, People]], format_name: str = "default",
                 by_number: bool = False) -> Iterator[str]:
    """(name, people) of each image -> the text of the results file, piece by piece. Images without people are absent.

    `by_number` names images by `image_number` (AlphaPose's --eval); the format coco always does.
    """
    kind, between = FORMATS[format_name], ""
    yield "{" if kind.by_name else "["
    for name, people in images:
        if len(people):
            yield between + image_text(name, people, format_name, by_number)
            between = ", "
    yield "}" if kind.by_name else "]"


def image_text(name: str, people: People, format_name: str, by_number: bool) -> str:
    """The part of one image in `results_text`."""
    kind = FORMATS[format_name]
    image = image_number(name) if by_number or format_name == "coco" else name
    text = json.dumps(kind.describe(image, people))
    return f"{json.dumps(str(image))}: {text}" if kind.by_name else text[1:-1]


def separate_text(name: str, people: People, format_name: str = "default", by_number: bool = False) -> Tuple[str, str]:
    """(file name, text) of one image's file in sep-json/."""
    image = image_number(name) if by_number or format_name == "coco" else name
    return f"{PurePosixPath(name).stem}.json", json.dumps(FORMATS[format_name].describe(image, people))


def _openpose_joints(people: People) -> List[List[float]]:
    """54 numbers each: COCO's 17 joints and the neck, in OpenPose's order; the neck's score is a mean as well."""
    joints = people.joint_rows.reshape(len(people), -1, 3).astype(np.float64)
    neck = (joints[:, 5:6] + joints[:, 6:7]) / 2
    return np.concatenate([joints, neck], axis=1)[:, OPENPOSE_ORDER].reshape(len(people), -1).tolist()


def _idx(people: People) -> List[Any]:
    if people.ids is not None:
        return people.ids.tolist()
    counts = [1] * len(people) if people.merged is None else people.merged.tolist()
    return [[0.0] if count == 1 else [[0.0]] * count for count in counts]  # nested only where several were joined
