"""The people of a result, and who is who in two of them."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from contract.manifest import Manifest
from pose.people import GROUND_TRUTH
from pose.spec import PoseSpec

Key = Tuple[int, Tuple[float, ...]]  # photo, box


@dataclasses.dataclass
class People:
    """N people: who they are, (N, K, 2) keypoints in photo pixels, (N, K) scores; of their crops (N, 2) centres,
    (N,) areas and widths; (N,) scores of whole people, which only a keypoints file has."""

    keys: List[Key]
    keypoints: np.ndarray
    scores: np.ndarray
    centers: np.ndarray
    areas: np.ndarray
    widths: np.ndarray
    person_scores: Optional[np.ndarray] = None

    def input_pixels(self, rows: np.ndarray, spec: PoseSpec) -> np.ndarray:
        """Pixels of the network's input to a pixel of the photo, for each of `rows`; crops of no size
        are kept from dividing by 0."""
        return spec.input_size[1] / np.maximum(self.widths[rows], 1e-6)


def people_of_keypoints(people: List[Dict[str, Any]], input_size: Tuple[int, int]) -> People:
    """The people of a keypoints file. Their crops follow from `area`, which postprocess.py writes for detections; of
    annotated boxes `bbox` is the crop's corners."""
    joints = np.array([person["keypoints"] for person in people], np.float64).reshape(len(people), -1, 3)
    boxes = np.array([person["bbox"] for person in people], np.float64)
    is_xywh = np.array(["area" in person for person in people])
    sizes = np.where(is_xywh[:, None], boxes[:, 2:], boxes[:, 2:] - boxes[:, :2])
    areas = np.array([person.get("area", 0) for person in people]) + np.where(is_xywh, 0, sizes.prod(axis=1))
    height, width = input_size
    keys = [(person["image_id"], tuple(person["bbox"])) for person in people]
    return People(keys, joints[..., :2], joints[..., 2], boxes[:, :2] + sizes / 2, areas,
                  np.sqrt(np.abs(areas) * width / height), np.array([person["score"] for person in people], np.float64))


def people_of_manifest(manifest: Manifest, keypoints: np.ndarray, scores: np.ndarray) -> People:
    """All people of a manifest, with the boxes that postprocess.py would write."""
    ground_truth = manifest.settings["boxes"] == GROUND_TRUTH
    boxes = manifest["crop_xyxy"] if ground_truth else manifest["bbox_xywh"].astype(np.float32)
    sizes = manifest["crop_xyxy"][:, 2:].astype(np.float64) - manifest["crop_xyxy"][:, :2]
    keys = list(zip(manifest["image_id"].tolist(), map(tuple, boxes.tolist())))
    centers = manifest["crop_xyxy"][:, :2] + sizes / 2
    return People(keys, keypoints, scores, centers, sizes.prod(axis=1), sizes[:, 0])


def match_people(a: People, b: People) -> Tuple[np.ndarray, np.ndarray]:
    """Rows of the same people in both: the same box on the same photo. Equal boxes are paired in order."""
    waiting: Dict[Key, List[int]] = {}
    for row in reversed(range(len(b.keys))):
        waiting.setdefault(b.keys[row], []).append(row)
    pairs = [(row, waiting[key].pop()) for row, key in enumerate(a.keys) if waiting.get(key)]
    return tuple(np.array(pairs, np.int64).reshape(-1, 2).T)
