"""What int8 is calibrated on: rows as the network takes them, of bins, or of photos and boxes."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

import numpy as np

from contract.bins import BinReader, open_bins, spread
from contract.errors import UserError
from contract.files import PathLike, sha256_of_rows
from contract.pixels import UINT8
from contract.spec import load_spec
from detection.detector import find_photographs, read_letterboxed
from detection.spec import DetectorSpec
from pose.coco import load_detections
from pose.crops import Normalizer, crop_person
from pose.geometry import GEOMETRIES
from pose.photos import Photos, read_photograph
from pose.spec import PoseSpec
from reid.crops import RESIZES, to_row
from reid.spec import ReidSpec

TRIED = 16  # rows that int8 is tried on while methods and layers are chosen
CORRECTED = 64  # bins or photos on which the shifts of layers are measured
FEW = 32  # crops: with fewer the ranges are those of a few people


class BoxRows:
    """A row for each person box of a detections file, cropped out of the photos of a folder when it is read."""

    def __init__(self, folder: PathLike, boxes: PathLike, spec: PoseSpec):
        self.folder, self.spec, self.detections = Path(folder), spec, load_detections(boxes)
        self.photos = Photos(folder)
        self.photos.add_names(self.detections.file_names)
        self.rows = [1] * len(self.detections)
        height, width = spec.input_size
        self.placed = GEOMETRIES[spec.geometry].place(self.detections.bbox_xyxy, width / height)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, numbers: range) -> np.ndarray:
        """(n, ...) rows of these boxes."""
        normalize = Normalizer(self.spec.mean, self.spec.std)
        rows = []
        for number in numbers:
            image = self.photos.read(int(self.detections.image_ids[number]))
            center, scale = (one[number] for one in self.placed)
            crop = crop_person(image, center, scale, self.spec.input_size, GEOMETRIES[self.spec.geometry].three_points)
            rows.append(crop if self.spec.dtype == UINT8 else normalize(crop))
        return np.stack(rows)

    def origin(self) -> Dict[str, Any]:
        rows = zip(self.detections.image_ids.tolist(), self.detections.bbox_xywh.tolist())
        return {"photos": str(self.folder), "boxes": sha256_of_rows(rows)}


class PhotoRows:
    """A row for each photo of a folder, letterboxed as a detector takes it."""

    def __init__(self, folder: PathLike, spec: Any):
        self.folder, self.spec, self.photos = Path(folder), spec, find_photographs(folder)
        self.rows = [1] * len(self.photos)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, numbers: range) -> np.ndarray:
        """(n, 3, H, W) rows of these photos."""
        height, width = self.spec.input_shape[1:]
        return np.stack([read_letterboxed(self.photos[number], (width, height)).tensor for number in numbers])

    def origin(self) -> Dict[str, Any]:
        return {"photos": sha256_of_rows((photo.path.name, photo.path.stat().st_size) for photo in self.photos)}


class PersonRows(PhotoRows):
    """A row for each image of a folder, one person's crop, resized as a ReID network takes it."""

    def read(self, numbers: range) -> np.ndarray:
        """(n, 3, H, W) float32 rows of these images, or (n, H, W, 3) uint8."""
        spec, resize = self.spec, RESIZES[self.spec.geometry]
        return np.stack([to_row(resize(read_photograph(self.photos[number].path), spec.input_size), spec.dtype,
                                spec.mean, spec.std) for number in numbers])

    def origin(self) -> Dict[str, Any]:
        return {**super().origin(), "config": self.spec.of_data()}


Source = Union[BinReader, BoxRows, PhotoRows]


def open_source(folder: PathLike, cfg: Optional[PathLike], boxes: Optional[PathLike]) -> Source:
    """Bins where the folder holds some, else photos: of a detector or a ReID network whole, of a pose network with
    `boxes`."""
    if boxes is None and (any(Path(folder).glob("*.bin")) or not Path(folder).is_dir()):
        return open_bins(Path(folder), cfg)
    spec = load_spec(cfg) if cfg else None
    if isinstance(spec, DetectorSpec):
        return PhotoRows(folder, spec)
    if isinstance(spec, ReidSpec):
        return PersonRows(folder, spec)
    if boxes is None or not isinstance(spec, PoseSpec):
        raise UserError(f"{folder}: holds no bins, which preprocess.py makes. Photos need the --cfg of a detector or "
                        "of a ReID network, or that of a pose network and --boxes, a detections file")
    return BoxRows(folder, boxes, spec)


def share_out(source: Source, people: int) -> Sequence[List[int]]:
    """Numbers of what is calibrated on, and of what int8 is then tried on: others, where there are enough."""
    chosen = spread(source, people)
    count = max(1, TRIED * len(chosen) // max(sum(source.rows[number] for number in chosen), 1))
    tried = chosen[::max(1, len(chosen) // count)][:count]
    rest = [number for number in chosen if number not in set(tried)]
    return (rest, tried) if sum(source.rows[number] for number in rest) >= FEW else (chosen, tried)


def few_of(calibrated: List[int]) -> List[int]:
    """Up to CORRECTED of what is calibrated on."""
    return calibrated[::1 + len(calibrated) // CORRECTED]


def batches(source: Source, numbers: Sequence[int], batch: Optional[int]) -> Iterator[np.ndarray]:
    """Rows of these numbers, one after another and no more than `batch` at a time."""
    for number in numbers:
        rows = source.read(range(number, number + 1))
        yield from np.split(rows, range(batch or len(rows), len(rows), batch or len(rows)))
