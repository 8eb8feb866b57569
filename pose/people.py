"""The people of a folder of bins: which boxes they come from, and the manifest that says so."""
from __future__ import annotations

from typing import List, Optional

from contract.manifest import Manifest, settings_of
from pose.boxes import box_to_center_scale, center_scale_to_xyxy
from pose.coco import Detections
from pose.spec import PoseSpec

DETECTED, GROUND_TRUTH = "detections", "ground_truth"  # kinds of boxes


def build_manifest(detections: Detections, source_sha256: str, config: PoseSpec, batch: int = 1,
                   boxes: str = DETECTED, images: Optional[List[int]] = None) -> Manifest:
    """The manifest of the bins that `preprocess.py` makes from these boxes, in their order.

    Columns: image_id (N,) int64, bbox_xywh (N, 4) float64, crop_xyxy (N, 4) float32, score (N,) float64. It needs no
    photograph, so it also serves dumps of bins that came without one. `images` are the only ones to be scored; None is
    all of the annotations.
    """
    height, width = config.input_size
    center, scale = box_to_center_scale(detections.bbox_xyxy, width / height)
    columns = {"image_id": detections.image_ids, "bbox_xywh": detections.bbox_xywh,
               "crop_xyxy": center_scale_to_xyxy(center, scale), "score": detections.scores}
    return Manifest(settings_of(config, batch, boxes=boxes, boxes_sha256=source_sha256, images=images), columns)


def spec_of(manifest: Manifest) -> PoseSpec:
    """The config as far as bins and dumps tell; the checkpoint's part is not in it."""
    return PoseSpec(**{key: tuple(value) if isinstance(value, list) else value
                         for key, value in manifest.settings["config"].items()}, dtype=manifest.settings["dtype"])
