"""COCO's joints, and its results format of person boxes."""
from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, Dict, Iterable, List, Tuple

import numpy as np

from contract.errors import UserError, note
from contract.files import PathLike, read_json

PERSON = 1  # COCO's category id
LARGEST_ID = 2 ** 63  # of int64
CORNERS = "every bbox looks like left, top, right, bottom, expected x, y, width, height: subtract left and top"
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
    file_names: Dict[int, str] = dataclasses.field(default_factory=dict)  # of photos whose rows name one

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_images(self, image_ids: Iterable[int]) -> Detections:
        """Those on the given photos, in the same order."""
        wanted = np.isin(self.image_ids, list(image_ids))
        return Detections(self.image_ids[wanted], self.bbox_xywh[wanted], self.bbox_xyxy[wanted], self.scores[wanted],
                          self.file_names)


def load_detections(path: PathLike, person: int = PERSON) -> Detections:
    """Read a COCO results file. Rows of other categories than `person` are left out, counted and shown.

    Raises UserError naming the first row that lacks a field or holds a value that no box can have, and when the rows
    are numbered from 0 or their boxes are fractions of the photo.
    """
    rows = read_json(path, "detections")
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a JSON list of detections, got {type(rows).__name__}")
    people = []
    others: Dict[int, int] = Counter()
    names: Dict[int, str] = {}
    for number, row in enumerate(rows):
        where = f"{path}: row {number}"
        category = _category(row, person, where)
        if category != person:
            others[category] += 1
            continue
        people.append(_checked(row, where))
        if "file_name" in row and names.setdefault(row["image_id"], row["file_name"]) != row["file_name"]:
            raise UserError(f"{where}: photo {row['image_id']} is called {row['file_name']!r:.80} here and "
                            f"{names[row['image_id']]!r:.80} before")
    left_out = ", ".join(f"{count} of category {category}" for category, count in sorted(others.items()))
    if not people:
        raise UserError(f"{path}: {len(rows)} rows, none of a person (category_id {person}): {left_out or 'empty'}. "
                        "--person_category says which category is a person")
    if others:
        note(f"{path}: left out {left_out}; people are category {person}")
    ids, boxes, scores = zip(*people)
    bbox_xywh = np.array(boxes, np.float64)
    if are_fractions(bbox_xywh):
        raise UserError(f"{path}: every bbox lies between 0 and 1, expected pixels. Are they fractions of the photo? "
                        "Multiply them by its width and height")
    low = bbox_xywh[:, :2]
    return Detections(np.array(ids, np.int64), bbox_xywh, np.concatenate([low, low + bbox_xywh[:, 2:]], axis=1),
                      np.array(scores, np.float64), names)


def _category(row: Any, person: int, where: str) -> int:
    """The category of a row; one that names none is a person."""
    category = row.get("category_id", person) if isinstance(row, dict) else person
    if type(category) is not int:
        raise UserError(f"{where}: category_id is {category!r:.80}, expected a whole number")
    if category == 0 != person:
        raise UserError(f"{where}: category_id is 0, and COCO's categories begin with 1, which is the person. Is this "
                        "file numbered from 0? --person_category 0 takes its category 0 for people")
    return category


def _checked(row: Any, where: str) -> Tuple[int, List[float], float]:
    if not isinstance(row, dict) or not {"image_id", "bbox", "score"} <= row.keys():
        raise UserError(f"{where}: expected an object with image_id, category_id, bbox and score")
    image_id, bbox, score = row["image_id"], row["bbox"], row["score"]
    if type(image_id) is not int or not 0 <= image_id < LARGEST_ID:
        raise UserError(f"{where}: image_id is {image_id!r}, expected COCO's integer id")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_usable(value) for value in bbox):
        raise UserError(f"{where}: bbox is {bbox!r:.80}, expected 4 finite numbers x, y, width, height")
    if not isinstance(row.get("file_name", ""), str):
        raise UserError(f"{where}: file_name is {row['file_name']!r:.80}, expected a text")
    if not _is_usable(score):
        raise UserError(f"{where}: score is {score!r}, expected a finite number")
    return image_id, bbox, score


def _is_usable(value: Any) -> bool:
    """Neither NaN nor infinite, which compare as False, nor so large that float32 loses the pixel."""
    return isinstance(value, (int, float)) and abs(value) < LARGEST_PIXEL


def are_corners(bbox_xywh: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether (N, 4) boxes on photos of (N, 2) width and height hold right and bottom where width and height belong: as
    sizes they would reach beyond a photo by more than a tenth of it, and as corners all of them fit."""
    low, high = bbox_xywh[:, :2], bbox_xywh[:, 2:]
    return bool(len(sizes) and (high > low).all() and (high <= sizes + 1).all() and (low + high > 1.1 * sizes).any())


def are_fractions(values: np.ndarray) -> bool:
    """Whether (...) coordinates look like fractions of a photo instead of pixels: all from 0 to 1, and not only 0 and
    1."""
    return bool(values.size and values.min() >= 0 and values.max() <= 1 and (values % 1).any())
