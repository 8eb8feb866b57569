"""The people of a folder of bins: which boxes they come from, and the manifest that says so."""
from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, List, Optional

from contract.errors import UserError
from contract.files import PathLike
from contract.manifest import Manifest, load_manifest, settings_of
from contract.spec import KEYPOINTS, first_of
from pose.coco import Detections
from pose.geometry import GEOMETRIES
from pose.spec import PoseSpec, spec_of_data

if TYPE_CHECKING:
    from contract.dumps import DumpReader

COLUMNS = {"image_id": (), "bbox_xywh": (4,), "crop_xyxy": (4,), "score": ()}  # name -> shape of a row
DETECTED, GROUND_TRUTH = "detections", "ground_truth"  # kinds of boxes


def build_manifest(detections: Detections, source_sha256: str, spec: PoseSpec, batch: int = 1,
                   boxes: str = DETECTED, images: Optional[List[int]] = None) -> Manifest:
    """The manifest of the bins that `preprocess.py` makes from these boxes, in their order.

    Columns: image_id (N,) int64, bbox_xywh (N, 4) float64, crop_xyxy (N, 4) float32, score (N,) float64. It needs no
    photo, so it also serves dumps of bins that came without one. `images` are the only ones to be scored; None is
    all of the annotations.
    """
    height, width = spec.input_size
    geometry = GEOMETRIES[spec.geometry]
    corners = geometry.corners(*geometry.place(detections.bbox_xyxy, width / height))
    columns = {"image_id": detections.image_ids, "bbox_xywh": detections.bbox_xywh, "crop_xyxy": corners,
               "score": detections.scores}
    return Manifest(settings_of(spec, batch, boxes=boxes, boxes_sha256=source_sha256, images=images), columns)


def load_people(path: PathLike) -> Manifest:
    """The manifest of people's crops. Raises UserError when it is one of something else, or was changed."""
    manifest = load_manifest(path)
    shapes = {name: values.shape[1:] for name, values in manifest.columns.items()}
    if shapes != COLUMNS or not {"boxes", "images"} <= manifest.settings.keys():
        raise UserError(f"{path}: not a manifest of people, expected {', '.join(COLUMNS)} in each row. Name the "
                        "--manifest that preprocess.py wrote")
    spec_of(manifest)
    return manifest


def spec_of(manifest: Manifest) -> PoseSpec:
    """The part of the spec that bins and dumps record. What belongs to the checkpoint is not in it."""
    config = manifest.settings["config"]
    try:
        return spec_of_data(config, manifest.settings["dtype"])
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"the manifest's config is {config!r:.80}, expected what preprocess.py writes. Run it again "
                        "with --replace") from None


def spec_of_dumps(reader: DumpReader) -> PoseSpec:
    """As `spec_of`, and how these dumps are decoded: those of a one-pass model hold keypoints."""
    spec = spec_of(reader.manifest)
    return spec if reader.shape == first_of(spec.outputs) else dataclasses.replace(spec, decode=KEYPOINTS)
