"""COCO's files: detections, annotations, photographs.

A data root is COCO's own layout: `annotations/person_keypoints_val2017.json` and `val2017/000000000139.jpg`.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PathLike, read_json

PERSON = 1  # COCO's category id
JOINTS = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
          "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
          "right_ankle")  # as COCO names them
BONES = ((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12), (11, 13),
         (13, 15), (12, 14), (14, 16))  # joints to draw a line between
LARGEST_ID = 10 ** 12  # photographs are named by 12 digits
LARGEST_PIXEL = 2 ** 24  # float32, which boxes are rounded to, holds whole numbers up to here


@dataclasses.dataclass(frozen=True)
class Detections:
    """N person boxes in the order of their file: (N,) int64 ids, (N, 4) float64 pixels, (N,) float64 scores.

    Both formats of a box are kept because going from one to the other rounds, and AlphaPose's crops show it.
    """

    image_ids: np.ndarray
    bbox_xywh: np.ndarray
    bbox_xyxy: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_images(self, image_ids: Iterable[int]) -> Detections:
        """Those on the given photographs, in the same order."""
        wanted = np.isin(self.image_ids, list(image_ids))
        return Detections(self.image_ids[wanted], self.bbox_xywh[wanted], self.bbox_xyxy[wanted], self.scores[wanted])


def annotations_path(dataroot: PathLike) -> Path:
    return Path(dataroot) / "annotations" / "person_keypoints_val2017.json"


def photograph_path(dataroot: PathLike, image_id: int) -> Path:
    return Path(dataroot) / "val2017" / f"{image_id:012d}.jpg"


def load_detections(path: PathLike) -> Detections:
    """Read a COCO results file. Rows of other categories than person are left out.

    Raises UserError naming the first row that lacks a field or holds a value that no box can have.
    """
    rows = read_json(path, "detections")
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a JSON list of detections, got {type(rows).__name__}")
    people = [_checked(row, f"{path}: row {number}") for number, row in enumerate(rows)
              if not isinstance(row, dict) or row.get("category_id", PERSON) == PERSON]
    if not people:
        raise UserError(f"{path}: {len(rows)} rows, none of a person (category_id {PERSON})")
    ids, boxes, scores = zip(*people)
    bbox_xywh = np.array(boxes, np.float64)
    low = bbox_xywh[:, :2]
    return Detections(np.array(ids, np.int64), bbox_xywh, np.concatenate([low, low + bbox_xywh[:, 2:]], axis=1),
                      np.array(scores, np.float64))


def _checked(row: Any, where: str) -> Tuple[int, List[float], float]:
    if not isinstance(row, dict) or not {"image_id", "bbox", "score"} <= row.keys():
        raise UserError(f"{where}: expected an object with image_id, category_id, bbox and score")
    image_id, bbox, score = row["image_id"], row["bbox"], row["score"]
    if not isinstance(image_id, int) or not 0 <= image_id < LARGEST_ID:
        raise UserError(f"{where}: image_id is {image_id!r}, expected COCO's integer id")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_usable(value) for value in bbox):
        raise UserError(f"{where}: bbox is {bbox}, expected 4 finite numbers x, y, width, height")
    if not _is_usable(score):
        raise UserError(f"{where}: score is {score!r}, expected a finite number")
    return image_id, bbox, score


def _is_usable(value: Any) -> bool:
    """Neither NaN nor infinite, which compare as False, nor so large that float32 loses the pixel."""
    return isinstance(value, (int, float)) and abs(value) < LARGEST_PIXEL


def load_annotations(dataroot: PathLike) -> Dict[str, Any]:
    path = annotations_path(dataroot)
    content = read_json(path, "annotations")
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise UserError(f"{path}: expected COCO's person keypoint annotations with images and annotations")
    return content


def ground_truth_boxes(annotations: Dict[str, Any]) -> Detections:
    """The annotated people with at least one keypoint, photographs by ascending id, as boxes of score 1.

    AlphaPose's validate_gt: right and bottom are x + w - 1 and y + h - 1, clipped to the last pixel of the photograph.
    """
    sizes = {image["id"]: (image["width"], image["height"]) for image in annotations["images"]}
    ids, boxes = [], []
    for person in sorted(annotations["annotations"], key=lambda person: person["image_id"]):
        width, height = sizes[person["image_id"]]
        x, y, w, h = map(float, person["bbox"])
        left, top = _clip(x, width), _clip(y, height)
        right, bottom = _clip(x + max(w - 1, 0), width), _clip(y + max(h - 1, 0), height)
        has_keypoints = max(person["keypoints"]) > 0 and person["num_keypoints"] > 0
        if not person["iscrowd"] and person["area"] > 0 and has_keypoints and right > left and bottom > top:
            ids.append(person["image_id"])
            boxes.append([left, top, right, bottom])
    bbox_xyxy = np.array(boxes, np.float64).reshape(-1, 4)
    low = bbox_xyxy[:, :2]
    return Detections(np.array(ids, np.int64), np.concatenate([low, bbox_xyxy[:, 2:] - low], axis=1), bbox_xyxy,
                      np.ones(len(ids)))


def _clip(value: float, size: int) -> float:
    return min(max(value, 0), size - 1)
