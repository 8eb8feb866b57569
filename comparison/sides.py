"""What the arguments of compare.py name: dumps, keypoints files, or both, and the people in them."""
from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from contract.dumps import DTYPES, DumpReader, read_settings
from contract.errors import UserError
from contract.files import read_json
from contract.manifest import Manifest, bins_in, settings_of
from pose.people import GROUND_TRUTH, spec_of
from pose.spec import NUM_JOINTS, PoseSpec

UNKNOWN = "unknown"  # source of the boxes of a manifest that was made up for dumps without one

Key = Tuple[int, Tuple[float, ...]]


@dataclasses.dataclass
class Side:
    """One of the results to compare: dumps of the normal and perhaps the mirrored bins, a keypoints file, or both."""

    label: str
    folders: List[Path]
    keypoints_path: Optional[Path]
    readers: List[DumpReader] = dataclasses.field(default_factory=list)
    results: Optional[List[Dict[str, Any]]] = None


@dataclasses.dataclass
class People:
    """N people: who they are, (N, K, 2) keypoints in photograph pixels, (N, K) scores; of their crops (N, 2) centres,
    (N,) areas and widths."""

    keys: List[Key]
    keypoints: np.ndarray
    scores: np.ndarray
    centers: np.ndarray
    areas: np.ndarray
    widths: np.ndarray


def parse_side(text: str) -> Side:
    """[LABEL=]PATH[,PATH ...]: a folder of dumps, then that of the mirrored bins; a .json file of keypoints."""
    label, equals, rest = text.partition("=")
    if not equals or os.path.exists(text):
        label, rest = "", text
    paths = [Path(part) for part in ([rest] if os.path.exists(rest) else rest.split(","))]
    folders = [path for path in paths if path.suffix != ".json"]
    files = [path for path in paths if path.suffix == ".json"]
    if len(folders) > 2 or len(files) > 1:
        raise UserError(f"{text}: expected [LABEL=]DUMPS[,DUMPS_OF_MIRRORED][,KEYPOINTS.json]")
    for path in folders:
        if not path.is_dir():
            raise UserError(f"{path}: no such folder of dumps. Name a folder, or a keypoints file that ends in .json")
    default = folders[0].name if folders else str(files[0])
    return Side(label or default, folders, files[0] if files else None)


def label_apart(sides: List[Side]) -> None:
    """Give every side a label of its own."""
    for side in sides:
        same = [other for other in sides if other.label == side.label]
        for other in same if len(same) > 1 else []:
            other.label = str(other.folders[0] if other.folders else other.keypoints_path)
    for number, side in enumerate(sides):
        if side.label in {other.label for other in sides[:number]}:
            side.label += f" ({number + 1})"


def open_sides(sides: List[Side], manifest: Optional[Manifest]) -> None:
    """Find every file of every side, of the right size, and read the keypoints files; nothing is computed yet."""
    if len({len(side.folders) for side in sides if side.folders}) > 1:
        raise UserError("some results have dumps of mirrored bins and some have not. Give both folders of each, as "
                        "LABEL=DUMPS,DUMPS_OF_MIRRORED, or only the first")
    for side in sides:
        side.readers = [DumpReader(folder, mirrored)
                        for folder, mirrored in zip(side.folders, (manifest, manifest and manifest.mirrored()))]
        side.results = load_results(side.keypoints_path) if side.keypoints_path else None


def anonymous_manifest(sides: List[Side], config: PoseSpec) -> Manifest:
    """A manifest for dumps that come without one: rows, but no photographs and no boxes. Crops are taken as wholes.

    The settings beside any of the dumps tell shapes and rows to a file; without them it is `config` and 1.
    """
    folders = [side.folders[0] for side in sides if side.folders]
    recorded = ((read_settings(folder) or {}).get("bins") for folder in folders)
    settings = next(filter(None, recorded), None) or settings_of(
        config, batch=1, boxes=UNKNOWN, boxes_sha256=None, images=None)
    people = _count_rows(folders[0], Manifest(settings, {}))
    height, width = spec_of(Manifest(settings, {})).input_size
    crops = np.tile(np.array([0, 0, width, height], np.float32), (people, 1))
    return Manifest(settings, {"image_id": np.arange(people), "bbox_xywh": crops.astype(np.float64),
                               "crop_xyxy": crops, "score": np.ones(people)})


def _count_rows(folder: Path, manifest: Manifest) -> int:
    """Rows of all dumps in a folder: every file but the last holds the manifest's batch."""
    found = bins_in(folder)
    if not found:
        raise UserError(f"{folder}: no dumps (.bin files). Run the inference first")
    sizes = [found[name] for name in sorted(found)]
    values = int(np.prod(next(iter(manifest.tensors.outputs.values()))))
    bytes_each = next((values * np.dtype(dtype).itemsize for dtype in DTYPES
                       if sizes[0] == manifest.batch * values * np.dtype(dtype).itemsize), values * 4)
    return (len(sizes) - 1) * manifest.batch + max(1, sizes[-1] // bytes_each)


def load_results(path: Path) -> List[Dict[str, Any]]:
    """A COCO results file of keypoints, as postprocess.py writes it."""
    results = read_json(path, "keypoints")
    if not isinstance(results, list) or not results:
        raise UserError(f"{path}: expected a JSON list of people with keypoints, as postprocess.py writes it")
    for number, person in enumerate(results):
        try:
            whole = np.shape(person["keypoints"]) == (3 * NUM_JOINTS,) and np.shape(person["bbox"]) == (4,)
            finite = np.isfinite([*person["keypoints"], *person["bbox"], person["score"], person["image_id"]]).all()
        except (KeyError, TypeError, ValueError):
            whole = finite = False
        if not whole or not finite:
            raise UserError(f"{path}: row {number}: expected image_id, bbox of 4, score and keypoints of "
                            f"{3 * NUM_JOINTS} finite numbers")
    return results


def people_of_results(results: List[Dict[str, Any]], input_size: Tuple[int, int]) -> People:
    """The people of a keypoints file. Their crops follow from `area`, which postprocess.py writes for detections; of
    annotated boxes `bbox` is the crop's corners."""
    joints = np.array([person["keypoints"] for person in results], np.float64).reshape(len(results), -1, 3)
    boxes = np.array([person["bbox"] for person in results], np.float64)
    is_xywh = np.array(["area" in person for person in results])
    sizes = np.where(is_xywh[:, None], boxes[:, 2:], boxes[:, 2:] - boxes[:, :2])
    areas = np.array([person.get("area", 0) for person in results]) + np.where(is_xywh, 0, sizes.prod(axis=1))
    height, width = input_size
    keys = [(person["image_id"], tuple(person["bbox"])) for person in results]
    return People(keys, joints[..., :2], joints[..., 2], boxes[:, :2] + sizes / 2, areas,
                  np.sqrt(np.abs(areas) * width / height))


def people_of_manifest(manifest: Manifest, keypoints: np.ndarray, scores: np.ndarray) -> People:
    """All people of a manifest, with the boxes that postprocess.py would write."""
    ground_truth = manifest.settings["boxes"] == GROUND_TRUTH
    boxes = manifest["crop_xyxy"] if ground_truth else manifest["bbox_xywh"].astype(np.float32)
    sizes = manifest["crop_xyxy"][:, 2:].astype(np.float64) - manifest["crop_xyxy"][:, :2]
    keys = list(zip(manifest["image_id"].tolist(), map(tuple, boxes.tolist())))
    centers = manifest["crop_xyxy"][:, :2] + sizes / 2
    return People(keys, keypoints, scores, centers, sizes.prod(axis=1), sizes[:, 0])


def match_people(a: People, b: People) -> Tuple[np.ndarray, np.ndarray]:
    """Rows of the same people in both: the same box on the same photograph. Equal boxes are paired in order."""
    waiting: Dict[Key, List[int]] = {}
    for row in reversed(range(len(b.keys))):
        waiting.setdefault(b.keys[row], []).append(row)
    pairs = [(row, waiting[key].pop()) for row, key in enumerate(a.keys) if waiting.get(key)]
    return tuple(np.array(pairs, np.int64).reshape(-1, 2).T)
