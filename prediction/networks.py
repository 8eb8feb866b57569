"""The two networks of predict.py: the one that finds people, and the one that finds their joints.

Each is opened, run and closed in one thread, which owns its device's context; what is beside the network, on numpy and
OpenCV, any thread may do. Batches are fixed and padded, so the numbers of an image do not depend on its neighbours.
Axes: N people of an image, K joints.
"""
from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from backends.rooms import open_backend
from contract.backend import Backend, check_backend, infer_rows, pad_rows
from contract.errors import UserError
from contract.files import PathLike
from contract.pixels import FLOAT32
from contract.spec import KEYPOINTS, outputs_of
from detection.decoding import Thresholds, anchor_rows, find_people
from detection.detector import Detector, batch_of, open_detector
from detection.letterbox import boxes_to_photograph, letterbox, network_input
from pose.crops import Normalizer, crop_person, mirror
from pose.decoders import heatmaps_to_keypoints
from pose.geometry import GEOMETRIES
from pose.poses import People
from pose.spec import PoseSpec


class Finder:
    """A detector: images to boxes of people."""

    def __init__(self, detector: Detector, thresholds: Thresholds):
        self.detector, self.thresholds, self.spec = detector, thresholds, detector.spec()
        self.network = self.spec.layers
        self.anchors = anchor_rows(self.network)
        self.opened = contextlib.ExitStack()
        self.backend: Any = None
        self.batch = 1

    def open(self) -> None:
        self.backend = self.opened.enter_context(open_detector(self.detector, self.spec))
        self.batch = batch_of(self.backend, self.detector)

    def close(self) -> None:
        self.opened.close()

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> the network's (3, height, width) float32."""
        return network_input(letterbox(image, (self.network.width, self.network.height)))

    def infer(self, tensors: Sequence[np.ndarray]) -> np.ndarray:
        return fixed_batches(self.backend, np.stack(tensors), self.batch)

    def boxes(self, rows: np.ndarray, image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """The network's rows of an image -> (N, 4) float64 corners and (N,) float32 scores, best first.

        The corners are those of the float32 xywh that a detections file holds, so that both ways crop the same.
        """
        if not np.isfinite(rows).all():
            raise UserError("the detector's output holds NaN or infinite values. Are these the weights of its cfg? In "
                            "float16, do they need more range?")
        people = find_people(rows, self.anchors, self.thresholds)
        height, width = image.shape[:2]
        boxes = boxes_to_photograph(people[:, :4], (self.network.width, self.network.height), (width, height))
        low, sizes = boxes[:, :2].astype(np.float64), boxes[:, 2:] - boxes[:, :2]
        return np.concatenate([low, low + sizes], axis=1), people[:, 4]


class Poser:
    """A pose network: images and boxes to joints. With `flip`, the mean over each crop and its mirror image.

    A one-pass model mirrors the crops itself. `batch` crops at once; None is what the model was made for, or
    `usual_batch` of one that takes any.
    """

    def __init__(self, room: str, model: PathLike, spec: PoseSpec, device: Optional[str], options: Mapping[str, Any],
                 batch: Optional[int], usual_batch: int, flip: bool):
        self.room, self.model, self.spec, self.device, self.options = room, model, spec, device, options
        self.batch_asked, self.batch, self.flip = batch, batch or usual_batch, flip
        self.geometry = GEOMETRIES[spec.geometry]
        self.normalize = Normalizer(spec.mean, spec.std)
        self.backend: Any = None

    def open(self) -> None:
        """The spec becomes that of the model: it may take bytes, and have found the joints itself."""
        self.backend = open_backend(self.room, self.model, self.device, self.spec, **self.options)
        self.spec = dataclasses.replace(self.spec, dtype=self.backend.input_dtype.name)
        if KEYPOINTS in outputs_of(self.spec, self.backend.output_shape[1:]):
            self.spec, self.flip = dataclasses.replace(self.spec, decode=KEYPOINTS), False
        check_backend(self.backend, self.model, self.spec)
        static = self.backend.input_shape[0]
        if static and self.batch_asked not in (None, static):
            raise UserError(f"{self.model}: takes batches of {static}, but --posebatch is {self.batch_asked}. Leave it "
                            "out")
        self.batch = static or self.batch

    def close(self) -> None:
        if self.backend:
            self.backend.close()

    def crops(self, image: np.ndarray, boxes_xyxy: np.ndarray) -> Tuple[List[np.ndarray], np.ndarray]:
        """(H, W, 3) RGB, (N, 4) -> the network's inputs, N or with `flip` 2 N, and (N, 4) corners of the crops."""
        height, width = self.spec.input_size
        centers, scales = self.geometry.place(boxes_xyxy, width / height)
        crops = [self._tensor(crop_person(image, center, scale, self.spec.input_size, self.geometry.three_points))
                 for center, scale in zip(centers, scales)]
        if self.flip:
            crops += [mirror(crop) for crop in crops]
        return crops, self.geometry.corners(centers, scales)

    def _tensor(self, crop: np.ndarray) -> np.ndarray:
        return self.normalize(crop) if self.spec.dtype == FLOAT32 else crop

    def infer(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        return fixed_batches(self.backend, np.stack(crops), self.batch)

    def people(self, heatmaps: Sequence[np.ndarray], crop_xyxy: np.ndarray, boxes_xyxy: np.ndarray,
               scores: np.ndarray) -> People:
        """The network's outputs of an image's crops -> its people."""
        maps = np.stack(heatmaps)
        flipped = maps[len(crop_xyxy):] if self.flip else None
        keypoints, joint_scores = heatmaps_to_keypoints(maps[:len(crop_xyxy)], flipped, crop_xyxy, self.spec)
        low, high = np.split(boxes_xyxy.astype(np.float64), 2, axis=1)
        boxes = np.concatenate([low, high - low], axis=1).astype(np.float32)
        return People(boxes, scores.astype(np.float32), keypoints, joint_scores)


def fixed_batches(backend: Backend, rows: np.ndarray, batch: int) -> np.ndarray:
    """Any number of rows, always `batch` at a time: a short last batch is filled, also for a model that takes any."""
    padded = pad_rows(rows, -(-len(rows) // batch) * batch)
    return infer_rows(backend, padded, batch)[:len(rows)]
