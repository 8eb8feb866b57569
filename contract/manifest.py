"""The file contract between stages: names, sizes and what each row of a bin is.

`preprocess.py` writes bins, `000000000007.bin`: one person's crop, or `batch` of them, in C order, float32 (3, H, W) or
uint8 (H, W, 3). A backend (ais_bench, or `infer.py`) turns each into a dump, `000000000007_0.bin`: (17, h, w) a person.
The manifest beside the bins says who each row is, so that no later stage opens a photograph.
"""
from __future__ import annotations

import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PathLike, read_json, remove_file, write_file
from pose.boxes import box_to_center_scale, center_scale_to_xyxy
from pose.coco import Detections
from pose.config import PoseConfig

MANIFEST = "manifest.json"  # ais_bench reads *.bin and *.npy of a folder and leaves this alone
UNFINISHED = "manifest.unfinished.json"  # its name until every bin is there
PERSON_KEYS = ("image_id", "bbox_xywh", "crop_xyxy", "score")
SETTING_KEYS = ("boxes", "boxes_sha256", "batch", "mirrored", "images")  # and config and dtype
DETECTED, GROUND_TRUTH = "detections", "ground_truth"


@dataclasses.dataclass
class Manifest:
    """Who is in which row: (N,) ids, (N, 4) float64 bbox_xywh, (N, 4) float32 crop_xyxy, (N,) scores; and settings.

    `settings` is what bins must share to be mixed: config, dtype, source of the boxes and its sha256, batch,
    mirrored.
    """

    settings: Dict[str, Any]
    image_ids: np.ndarray
    bbox_xywh: np.ndarray
    crop_xyxy: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def batch(self) -> int:
        return self.settings["batch"]

    @functools.cached_property
    def data_config(self) -> PoseConfig:
        """The config as far as bins and dumps tell; the checkpoint's part is not in it."""
        return PoseConfig(**{key: tuple(value) if isinstance(value, list) else value
                             for key, value in self.settings["config"].items()}, dtype=self.settings["dtype"])

    @functools.cached_property
    def bin_names(self) -> List[str]:
        return [f"{index:012d}.bin" for index in range(-(-len(self) // self.batch))]

    def rows(self, name_index: int) -> int:
        """People in bin number `name_index`: `batch`, or fewer in the last."""
        return min(self.batch, len(self) - name_index * self.batch)

    def chunks(self, people: int) -> List[range]:
        """Numbers of consecutive bins, about `people` people at a time."""
        files, at_once = len(self.bin_names), max(1, people // self.batch)
        return [range(start, min(start + at_once, files)) for start in range(0, files, at_once)]

    def rows_of(self, numbers: range) -> slice:
        """The rows, among all people, of consecutive bins."""
        return slice(numbers[0] * self.batch, min((numbers[-1] + 1) * self.batch, len(self)))

    def bin_bytes(self, name_index: int) -> int:
        return self.rows(name_index) * self.data_config.input_bytes

    def of_rows(self, rows: slice) -> Manifest:
        return Manifest(self.settings, self.image_ids[rows], self.bbox_xywh[rows], self.crop_xyxy[rows],
                        self.scores[rows])

    def mirrored(self) -> Manifest:
        return dataclasses.replace(self, settings={**self.settings, "mirrored": True})


def build_manifest(detections: Detections, source_sha256: str, config: PoseConfig, batch: int = 1,
                   boxes: str = DETECTED, images: Optional[List[int]] = None) -> Manifest:
    """The manifest of the bins that `preprocess.py` makes from these boxes, in their order.

    It needs no photograph, so it also serves dumps of bins that came without one. `images` are the only ones to be
    scored; None is all of the annotations.
    """
    height, width = config.input_size
    center, scale = box_to_center_scale(detections.bbox_xyxy, width / height)
    settings = {"config": config.of_data(), "dtype": config.dtype, "boxes": boxes, "boxes_sha256": source_sha256,
                "batch": batch, "mirrored": False, "images": images}
    return Manifest(settings, detections.image_ids, detections.bbox_xywh, center_scale_to_xyxy(center, scale),
                    detections.scores)


def save_manifest(folder: PathLike, manifest: Manifest, name: str = MANIFEST) -> None:
    """Write it as JSON with one person a line, so that text tools find one."""
    columns = (manifest.image_ids, manifest.bbox_xywh, manifest.crop_xyxy, manifest.scores)
    people = [json.dumps(dict(zip(PERSON_KEYS, person))) for person in zip(*(column.tolist() for column in columns))]
    head = json.dumps(manifest.settings)[:-1]
    write_file(Path(folder) / name, (head + ', "people": [\n' + ",\n".join(people) + "\n]}\n").encode())


def load_manifest(path: PathLike) -> Manifest:
    """Read a manifest file. Raises UserError when it is not one."""
    content = read_json(path, "manifest")
    try:
        people = content.pop("people")
        image_ids, bbox_xywh, crop_xyxy, scores = ([person[key] for person in people] for key in PERSON_KEYS)
        manifest = Manifest(content, np.array(image_ids, np.int64), np.array(bbox_xywh, np.float64).reshape(-1, 4),
                            np.array(crop_xyxy, np.float32).reshape(-1, 4), np.array(scores, np.float64))
        manifest.data_config.input_bytes, *(manifest.settings[key] for key in SETTING_KEYS)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a manifest that preprocess.py wrote ({type(error).__name__}: {error}). "
                        "Name the --manifest that it wrote, or remove this file and run it again") from None
    return manifest


def settings_difference(ours: Dict[str, Any], theirs: Dict[str, Any], but: Tuple[str, ...] = ()) -> Optional[str]:
    """The first setting that differs, in words; None when all agree. Keys in `but` may differ."""
    for key in sorted((ours.keys() | theirs.keys()) - set(but)):
        if ours.get(key) != theirs.get(key):
            return f"{key} was {json.dumps(theirs.get(key))}, now {json.dumps(ours.get(key))}"
    return None


def bins_in(folder: PathLike) -> Dict[str, int]:
    """Name -> bytes of every .bin in `folder`; empty when there is no such folder."""
    try:
        return {entry.name: entry.stat().st_size for entry in os.scandir(folder) if entry.name.endswith(".bin")}
    except FileNotFoundError:
        return {}


def remove_bins(folder: PathLike, *records: str) -> None:
    """Remove every .bin of `folder`, then the files that say what they are."""
    for name in [*bins_in(folder), *records]:
        remove_file(Path(folder) / name)
