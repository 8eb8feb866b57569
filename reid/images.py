"""People of image files, of folders of them, or of the boxes of a detections file, and the model's input of each."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import read_json
from pose.photos import SUFFIXES, Photos, read_photograph
from reid.crops import RESIZES, region, to_row
from reid.features import SUFFIX
from reid.spec import ReidSpec


@dataclasses.dataclass(frozen=True)
class Crop:
    """One person: an image file, or a box of one, xywh in pixels."""

    name: str
    file: Path
    bbox: Optional[Tuple[float, ...]] = None
    score: Optional[float] = None

    def describe(self) -> Dict[str, Any]:
        return {"file": str(self.file), "bytes": self.file.stat().st_size, "bbox": self.bbox and list(self.bbox),
                "score": self.score}


def crops_of_images(inputs: List[str]) -> List[Crop]:
    """Every image, by its name without suffix. Raises UserError for two of one name."""
    files: List[Path] = []
    for path in map(Path, inputs):
        files += Photos(path).files if path.is_dir() else [path]
    if not files:
        raise UserError(f"{' '.join(inputs)}: no images ({', '.join(SUFFIXES)})")
    known: Dict[str, Path] = {}
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such image")
        if known.setdefault(file.stem, file) is not file:
            raise UserError(f"{file} and {known[file.stem]} would both be {file.stem}{SUFFIX}. Extract them into two "
                            "folders, or rename one")
    return [Crop(name, file) for name, file in known.items()]


def crops_of_boxes(folder: str, detections: str) -> List[Crop]:
    """Every box of a detections file, as PHOTO_NUMBER, numbers from 0 in each photo."""
    photos, boxes = Photos(folder), read_json(detections, "detections")
    counts: Dict[int, int] = {}
    crops = []
    try:
        for entry in boxes:
            image_id, bbox = int(entry["image_id"]), tuple(map(float, entry["bbox"]))
            number = counts[image_id] = counts.get(image_id, -1) + 1
            if len(bbox) != 4 or not np.isfinite(bbox).all():
                raise ValueError(bbox)
            file = photos.path(image_id)
            crops.append(Crop(f"{file.stem}_{number:03d}", file, bbox, float(entry["score"])))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{detections}: box {len(crops)}: expected image_id, bbox of 4 numbers and score") from None
    if not crops:
        raise UserError(f"{detections}: no boxes")
    return crops


def read_row(crop: Crop, spec: ReidSpec) -> np.ndarray:
    image = read_photograph(crop.file)
    part = image if crop.bbox is None else region(image, crop.bbox)
    return to_row(RESIZES[spec.geometry](np.ascontiguousarray(part), spec.input_size), spec.dtype, spec.mean, spec.std)
