"""COCO's person annotations, checked once for all who use them: --gt_boxes, scoring, compare.py.

An entry that would give a wrong number is either refused, with its name in the error, or corrected with a note.
"""
from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from contract.errors import UserError, note
from contract.files import PathLike, read_json
from pose.coco import CORNERS, LARGEST_ID, LARGEST_PIXEL, PERSON, Detections, are_corners, are_fractions
from pose.skeleton import COCO17

LABELLED = (0, 1, 2)  # what COCO writes after x and y: not labelled, hidden, visible
MEAN_PEOPLE = {"person", "persons", "people", "human", "pedestrian"}  # names of categories
FEW = 5  # people: of fewer, all may lie near the left upper corner of their photos
OPTIONAL = {"num_keypoints": "the count of labelled joints", "area": "the area of the bbox", "iscrowd": "0"}


@dataclasses.dataclass(frozen=True)
class Annotations:
    """Photos by id, and the people on them in the file's order: COCO's own entries, complete, of category PERSON."""

    path: Path
    images: Dict[int, Dict[str, Any]]
    people: List[Dict[str, Any]]

    def as_coco(self) -> Dict[str, Any]:
        """One data set of a single category. `info` is there because pycocotools 2.0.9 and 2.0.10 ask for it."""
        return {"info": {}, "images": list(self.images.values()), "annotations": self.people,
                "categories": [{"id": PERSON, "name": "person", "keypoints": list(COCO17.joints)}]}

    def require_images(self, ids: Any, what: str) -> None:
        """Raise UserError unless `ids`, which are of `what`, are a list of photos that are annotated."""
        if not isinstance(ids, list) or not ids or set(map(type, ids)) != {int}:
            raise UserError(f"{self.path}: the {what} are {ids!r:.80}, expected a list of ids of photos")
        strangers = set(ids) - self.images.keys()
        if strangers:
            raise UserError(f"{self.path}: has no photo {min(strangers)}, which the {what} name ({len(strangers)} "
                            "such). Do they belong to these annotations?")


def annotations_path(source: PathLike) -> Path:
    """The file of annotations that `source` is, or that a data root in COCO's layout has."""
    source = Path(source)
    if source.suffix == ".json" or source.is_file():
        return source
    return source / "annotations" / "person_keypoints_val2017.json"


def load_images(source: PathLike) -> Dict[int, Dict[str, Any]]:
    """The photos that an annotation file names, by id; nobody needs to be annotated there."""
    path = annotations_path(source)
    try:
        return _images(_sections(read_json(path, "annotations"), "images"))
    except UserError as error:
        raise _named(path, error) from None


def load_annotations(source: PathLike) -> Annotations:
    """Read and check a file of person keypoints, or that of a data root; print what was completed or left out.

    Raises UserError naming the section or annotation when the file has no photos, no person category, nobody to be
    scored, joints that are not COCO's 17, or values that no annotation can have.
    """
    path = annotations_path(source)
    content = read_json(path, "annotations")
    try:
        photos, rows, categories = (_sections(content, name) for name in ("images", "annotations", "categories"))
        images = _images(photos)
        notes: Dict[str, int] = Counter()
        people = list(_people(rows, images, _person_category(categories), notes))
        _require_scorable(people)
        _require_pixels(people)
        _require_inside(people, images, notes)
        people = _renumbered(people, notes)
    except UserError as error:
        raise _named(path, error) from None
    for what, count in notes.items():
        note(f"{path}: annotations {what}: {count}")
    return Annotations(path, images, people)


def _named(path: Path, error: UserError) -> UserError:
    return error if str(path) in str(error) else UserError(f"{path}: {error}")


def _sections(content: Any, name: str) -> List[Dict[str, Any]]:
    if not isinstance(content, dict):
        raise UserError(f"expected COCO's object of images, annotations and categories, got {type(content).__name__}")
    if name not in content:
        raise UserError(f"the section {name!r} is missing, expected COCO's images, annotations and categories")
    rows = content[name]
    if not isinstance(rows, list):
        raise UserError(f"{name!r} is {type(rows).__name__}, expected a list")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(f"{name}[{number}] is {type(row).__name__}, expected an object")
    return rows


def _images(rows: List[Dict[str, Any]]) -> Dict[int, Dict[str, Any]]:
    images: Dict[int, Dict[str, Any]] = {}
    for number, row in enumerate(rows):
        where = f"images[{number}]"
        image = {key: value for key, value in row.items() if value is not None}
        image["id"] = _id(image, "id", where)
        if image["id"] in images:
            raise UserError(f"{where}: id {image['id']} is there twice. Number the photos apart")
        if not isinstance(image.get("file_name", ""), str):
            raise UserError(f"{where}: file_name is {image['file_name']!r:.60}, expected a text")
        for key in ("width", "height"):
            size = image.get(key, 1)
            if type(size) not in (int, float) or size != size // 1 or not 1 <= size < LARGEST_PIXEL:
                raise UserError(f"{where}: {key} is {size!r:.60}, expected pixels, a whole number from 1")
        images[image["id"]] = image
    if not images:
        raise UserError("'images' is empty, so no photo is named")
    return images


def _id(row: Dict[str, Any], key: str, where: str) -> int:
    """An id as an int. Whole floats, which table programs write, are the same id."""
    value: Any = row.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < LARGEST_ID or value != int(value):
        raise UserError(f"{where}: {key} is {value!r:.60}, expected a whole number" if key in row else
                        f"{where}: {key!r} is missing, expected a whole number")
    return int(value)


def _person_category(categories: List[Dict[str, Any]]) -> int:
    """The id of the category of people: the one that is named person, else the only one with keypoints, else the only
    one whose name means people."""
    found: List[Dict[str, Any]] = []
    for fits in (lambda row: _plain(row.get("name")) == "person", lambda row: row.get("keypoints"),
                 lambda row: {_plain(row.get("name")), _plain(row.get("supercategory"))} & MEAN_PEOPLE):
        found = found or list(filter(fits, categories))
    if len(found) != 1:
        names = ", ".join(f"{row.get('id')!r:.20} {row.get('name')!r:.40}" for row in categories[:5])
        raise UserError(f"{len(found) or 'none'} of the {len(categories)} categories ({names}) is named person or "
                        "has keypoints, expected one")
    joints = found[0].get("keypoints") or list(COCO17.joints)
    if not isinstance(joints, list) or [_plain(joint) for joint in joints] != list(map(_plain, COCO17.joints)):
        raise UserError(f"the keypoints of category {found[0].get('name')!r:.40} are {len(joints)}: {joints!r:.80}, "
                        f"expected COCO's {len(COCO17)}, from nose to right_ankle. If they are the same joints in the "
                        "same order, name them so")
    return _id(found[0], "id", f"category {found[0].get('name')!r:.40}")


def _plain(joint: Any) -> str:
    """A joint's name without what tools write in different ways."""
    return "".join(filter(str.isalnum, str(joint).lower()))


def _people(rows: List[Dict[str, Any]], images: Dict[int, Any], category: int,
            notes: Dict[str, int]) -> Iterator[Dict[str, Any]]:
    """The people of `rows`, complete; what is done with an annotation is counted in `notes`."""
    for number, row in enumerate(rows):
        where = f"annotation {row['id']!r:.40}" if "id" in row else f"annotations[{number}]"
        person = {key: value for key, value in row.items() if value is not None}
        kind = _id(person, "category_id", where)
        if kind != category:
            notes[f"left out, of category {kind} (people are category {category})"] += 1
            continue
        person.update(category_id=PERSON, image_id=_id(person, "image_id", where))
        if person["image_id"] not in images:
            notes["left out, on photos that 'images' does not have"] += 1
            continue
        missing = [key for key in OPTIONAL if key not in person]
        labelled = _complete(person, where)
        if person["num_keypoints"] != labelled:
            notes["of which num_keypoints is not the count of labelled joints, which is taken"] += 1
            person["num_keypoints"] = labelled
        if missing:
            defaults = " and ".join(OPTIONAL[key] for key in missing)
            notes[f"without {' and '.join(missing)}, completed by {defaults}"] += 1
        yield person


def _complete(person: Dict[str, Any], where: str) -> int:
    """Check the values of one person, fill in those of OPTIONAL that are missing, and count the labelled joints."""
    joints = person.setdefault("keypoints", []) or ([] if person.get("num_keypoints") else [0] * 3 * len(COCO17))
    if isinstance(joints, list) and len(joints) != 3 * len(COCO17):
        came = f"lists of {len(joints)} joints" if joints and isinstance(joints[0], list) else \
            f"{len(joints)} numbers" if len(joints) % 3 else f"{len(joints) // 3} joints"
        raise UserError(f"{where}: has {came}, expected COCO's {len(COCO17)} joints, three numbers each, in one list")
    person["keypoints"] = _numbers(joints, 3 * len(COCO17), where, "keypoints")
    person["bbox"] = _numbers(person.get("bbox"), 4, where, "bbox")
    labels = joints[2::3]
    if not set(labels) <= set(LABELLED):
        raise UserError(f"{where}: a joint's label is {next(v for v in labels if v not in LABELLED)}, expected 0, 1 or "
                        "2: not labelled, hidden, visible")
    labelled = len(labels) - labels.count(0)
    width, height = person["bbox"][2:]
    if min(width, height) < 0:
        raise UserError(f"{where}: bbox is {person['bbox']}, expected x, y and a width and height of at least 0")
    defaults = {"num_keypoints": labelled, "area": width * height, "iscrowd": 0}
    for key in OPTIONAL:
        _numbers([person.setdefault(key, defaults[key])], 1, where, key)
    if person["num_keypoints"] and not labelled:
        raise UserError(f"{where}: num_keypoints is {person['num_keypoints']}, but every joint has the label 0, not "
                        "labelled. Label them 1 or 2, or remove num_keypoints")
    if person["iscrowd"] not in (0, 1):
        raise UserError(f"{where}: iscrowd is {person['iscrowd']!r:.40}, expected 0 or 1")
    if person["area"] <= 0 and labelled and not person["iscrowd"]:
        raise UserError(f"{where}: area is {person['area']}, expected more than 0: no result could be near enough. "
                        "Remove area to have that of the bbox taken")
    return labelled


def _numbers(values: Any, count: int, where: str, key: str) -> List[float]:
    usable = isinstance(values, list) and len(values) == count and set(map(type, values)) <= {int, float, bool}
    if not usable or not all(-LARGEST_PIXEL ** 2 < value < LARGEST_PIXEL ** 2 for value in values):
        raise UserError(f"{where}: {key!r} is {'missing' if values is None else f'{values!r:.80}'}, expected {count} "
                        f"finite number{'s' if count > 1 else ''}")
    return values


def _require_scorable(people: List[Dict[str, Any]]) -> None:
    if not any(person["num_keypoints"] and not person["iscrowd"] for person in people):
        raise UserError("no annotated person with labelled joints, so there is nothing to score (as of COCO's "
                        "test-dev, or of instances_*.json)")


def _require_pixels(people: List[Dict[str, Any]]) -> None:
    """Refuse a file whose boxes or joints all lie in 0..1: fractions of the photo, as other formats have them."""
    joints = np.array([person["keypoints"] for person in people], np.float64).reshape(-1, 3)
    for what, values in (("bbox", np.array([person["bbox"] for person in people], np.float64)),
                         ("keypoints", joints[joints[:, 2] > 0, :2])):
        if are_fractions(values):
            raise UserError(f"every {what} lies between 0 and 1, expected pixels. Are they fractions of the photo? "
                            "Multiply them by its width and height")


def _require_inside(people: List[Dict[str, Any]], images: Dict[int, Any], notes: Dict[str, int]) -> None:
    """Refuse boxes of corners, and count the people whose labelled joints are all beyond their photo."""
    boxes = np.array([person["bbox"] for person in people], np.float64)
    joints = np.array([person["keypoints"] for person in people], np.float64).reshape(len(people), -1, 3)
    sizes = np.array([[images[person["image_id"]].get(key, np.inf) for key in ("width", "height")]
                      for person in people])
    places, labelled = joints[..., :2], joints[..., 2] > 0
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    between = ((low <= places) & (places <= high)).all(axis=2) | ~labelled
    if are_corners(boxes, sizes) or len(people) >= FEW and between.all() and (low < high).all():
        raise UserError(CORNERS)
    beyond = ((places < 0) | (places > sizes[:, None])).any(axis=2) | ~labelled
    count = int((beyond.all(axis=1) & labelled.any(axis=1)).sum())
    if count:
        notes["whose joints are all outside of their photo, as the annotations give its size"] += count


def _renumbered(people: List[Dict[str, Any]], notes: Dict[str, int]) -> List[Dict[str, Any]]:
    """`people` with unique ids from 1: pycocotools takes 0 for nobody, and of equal ids the last for all."""
    ids = [person.get("id") for person in people]
    if all(type(number) is int and number > 0 for number in ids) and len(set(ids)) == len(ids):
        return people
    _refuse_copies(people)
    notes["renumbered from 1, because ids were missing, there twice, or not whole numbers from 1"] += len(people)
    return [{**person, "id": number} for number, person in enumerate(people, start=1)]


def _refuse_copies(people: List[Dict[str, Any]]) -> None:
    seen = set()
    for person in people:
        content = repr(sorted(person.items()))
        if content in seen:
            raise UserError(f"annotation {person.get('id')!r:.40} is there twice, with the same content. Remove one")
        seen.add(content)


def ground_truth_boxes(annotations: Annotations) -> Detections:
    """The annotated people with at least one keypoint, photos by ascending id, as boxes of score 1.

    AlphaPose's validate_gt: right and bottom are x + w - 1 and y + h - 1, clipped to the last pixel of the photo.
    """
    ids, boxes = [], []
    for person in sorted(annotations.people, key=lambda person: person["image_id"]):
        box = _box_inside(person, annotations.images[person["image_id"]])
        has_keypoints = max(person["keypoints"]) > 0 and person["num_keypoints"] > 0
        if not person["iscrowd"] and person["area"] > 0 and has_keypoints and box:
            ids.append(person["image_id"])
            boxes.append(box)
    bbox_xyxy = np.array(boxes, np.float64).reshape(-1, 4)
    low = bbox_xyxy[:, :2]
    return Detections(np.array(ids, np.int64), np.concatenate([low, bbox_xyxy[:, 2:] - low], axis=1), bbox_xyxy,
                      np.ones(len(ids)))


def _box_inside(person: Dict[str, Any], image: Dict[str, Any]) -> Optional[Tuple[float, float, float, float]]:
    """x1 y1 x2 y2 inside the photo; None when nothing is left of the box."""
    if not {"width", "height"} <= image.keys():
        raise UserError(f"photo {image['id']} has no width and height in the annotations, which its boxes are clipped "
                        "to. Add them")
    x, y, w, h = map(float, person["bbox"])
    left, top = _clip(x, image["width"]), _clip(y, image["height"])
    right, bottom = _clip(x + max(w - 1, 0), image["width"]), _clip(y + max(h - 1, 0), image["height"])
    return (left, top, right, bottom) if right > left and bottom > top else None


def _clip(value: float, size: int) -> float:
    return min(max(value, 0), size - 1)
