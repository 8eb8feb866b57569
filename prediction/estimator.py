"""Images in, people out, in memory: the same functions as the stages, and the same numbers to the last digit."""
from __future__ import annotations

import contextlib
from typing import Any, Iterable, List, Optional, Tuple

import numpy as np

from backends.rooms import backend_of
from contract.errors import UserError
from contract.files import PathLike
from detection.decoding import Thresholds
from detection.detector import SPP_CFG, Detector
from pose.boxes import areas_of
from pose.poses import People, nobody, oks_kept
from pose.spec import load_spec
from prediction.networks import Finder, Poser

WEIGHTS = ".weights"  # darknet's, which ONNX Runtime is given as an ONNX made on the spot
USUAL_BATCH = 16  # of a pose model that takes any, as infer.py has it

Boxes = Tuple[np.ndarray, np.ndarray]  # (N, 4) xywh and (N,) scores


class Estimator:
    """A pose network with, or without, a detector before it.

        estimator = Estimator("configs/256x192_res50_lr1e-3_1x.yaml", "models/fast_res50_256x192_bs16.onnx",
                              detector="models/yolov3-spp.weights")
        people = estimator(image)

    `model` and `detector` are files of any backend, which their suffixes name; `options` are flags of the pose model's,
    such as precision="fp16". With `flip`, joints are those of the mean over each crop and its mirror image. Models are
    opened here and closed by `close`, or at the end of a `with`; one thread at a time may use them.
    """

    def __init__(self, cfg: PathLike, model: PathLike, detector: Optional[PathLike] = None,
                 yolo_cfg: PathLike = SPP_CFG, device: Optional[str] = None, batch: Optional[int] = None,
                 flip: bool = True, **options: Any):
        """Raises UserError for files that are not there, not models, or models of another config."""
        self.poser = Poser(backend_of(model), model, load_spec(cfg), device, options, batch, USUAL_BATCH, flip)
        self.finder = Finder(_detector(detector, yolo_cfg), Thresholds()) if detector else None
        with contextlib.ExitStack() as opened:
            for network in (self.finder, self.poser) if self.finder else (self.poser,):
                network.open()
                opened.callback(network.close)
            self.opened = opened.pop_all()

    def __call__(self, image: np.ndarray, boxes: Optional[Boxes] = None) -> People:
        """The people on an image (H, W, 3) uint8 RGB, best first; in `boxes` where there is no detector."""
        return self.each([image], None if boxes is None else [boxes])[0]

    def each(self, images: Iterable[np.ndarray], boxes: Optional[Iterable[Boxes]] = None) -> List[People]:
        """The people on each image, in batches across images; the people of one do not depend on the others."""
        images = [_checked(image) for image in images]
        if boxes is not None and self.finder is None:
            found = [_corners(*one) for one in boxes]
        elif boxes is None and self.finder is not None:
            found = _find(self.finder, images)
        else:
            raise UserError("give an Estimator either a detector or, with each image, its boxes")
        placed = [self.poser.crops(image, corners) for image, (corners, _) in zip(images, found)]
        tensors = [crop for crops, _ in placed for crop in crops]
        rows = iter(self.poser.infer(tensors)) if tensors else iter(())
        return [self._people([next(rows) for _ in crops], crop_xyxy, *one) for (crops, crop_xyxy), one
                in zip(placed, found)]

    def _people(self, heatmaps: List[np.ndarray], crop_xyxy: np.ndarray, corners: np.ndarray,
                scores: np.ndarray) -> People:
        if not len(corners):
            return nobody(len(self.poser.spec.skeleton))
        people = self.poser.people(heatmaps, crop_xyxy, corners, scores)
        return oks_kept(people, areas_of(crop_xyxy), self.poser.spec.skeleton)

    def close(self) -> None:
        self.opened.close()

    def __enter__(self) -> Estimator:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _detector(file: PathLike, cfg: PathLike) -> Detector:
    if str(file).endswith(WEIGHTS):
        return Detector(weights=file, cfg=cfg)
    return Detector(model=file, cfg=cfg, backend=backend_of(file))


def _checked(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"an image is {image.dtype} {image.shape}, expected uint8 (H, W, 3), RGB")
    return image


def _find(finder: Finder, images: List[np.ndarray]) -> List[Boxes]:
    """(N, 4) float64 corners and (N,) scores of each image."""
    found = []
    for start in range(0, len(images), finder.batch):
        group = images[start:start + finder.batch]
        outputs = finder.infer([finder.prepare(image) for image in group])
        found += [finder.boxes(rows, image) for rows, image in zip(outputs, group)]
    return found


def _corners(boxes_xywh: np.ndarray, scores: np.ndarray) -> Boxes:
    """As a detections file holds them, and as pose.coco reads them."""
    boxes = np.asarray(boxes_xywh, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), np.asarray(scores)
