"""Boxes of people that are given: found by another detector, or typed by hand."""
from __future__ import annotations

from collections import defaultdict
from typing import Dict, List, Sequence, Tuple, Union

import numpy as np

from contract.errors import UserError
from contract.files import PathLike, read_json
from pose.alphapose_results import image_number
from pose.coco import PERSON
from prediction.pipeline import Boxes
from prediction.sources import Frame


def typed_boxes(boxes_xywh: Sequence[Tuple[float, ...]]) -> Boxes:
    """The same people on every image, with score 1."""
    corners = _corners(boxes_xywh)
    scores = np.ones(len(corners), np.float32)
    return lambda frame: (corners, scores)


def detected_boxes(path: PathLike, confidence: float) -> Boxes:
    """Those of a COCO results file for each image, by its name or else by the number in its name.

    Raises UserError for a file that is none, and for an image whose name has no number where the file has numbers.
    """
    rows = read_json(path, "detections")
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a JSON list of detections, got {type(rows).__name__}")
    by_image: Dict[Union[str, int], List[Tuple[List[float], float]]] = defaultdict(list)
    for number, row in enumerate(rows):
        image, xywh, score = _checked(row, f"{path}: row {number}")
        if row.get("category_id", PERSON) == PERSON and score > confidence:
            by_image[image].append((xywh, score))
    has_numbers = any(isinstance(image, int) for image in by_image)

    def boxes(frame: Frame) -> Tuple[np.ndarray, np.ndarray]:
        found = by_image.get(frame.name)
        if found is None and has_numbers:
            found = by_image.get(image_number(frame.name))
        found = found or []
        return _corners([xywh for xywh, _ in found]), np.array([score for _, score in found], np.float32)

    return boxes


def _checked(row: object, where: str) -> Tuple[Union[str, int], List[float], float]:
    if not isinstance(row, dict) or not isinstance(row.get("image_id"), (int, str)):
        raise UserError(f"{where}: expected an object with image_id, bbox and score")
    xywh, score = row.get("bbox", row.get("box")), row.get("score", 1.0)
    if not isinstance(xywh, list) or len(xywh) != 4 or not np.isfinite([*xywh, score]).all():
        raise UserError(f"{where}: bbox is {xywh} and score {score}, expected finite numbers x, y, width, height, and "
                        "one")
    return row["image_id"], xywh, float(score)


def _corners(boxes_xywh: Sequence[Sequence[float]]) -> np.ndarray:
    boxes = np.array(boxes_xywh, np.float64).reshape(-1, 4)  # as the stages have them: crops show the rounding
    boxes[:, 2:] += boxes[:, :2]
    return boxes
