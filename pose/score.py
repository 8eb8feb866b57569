"""COCO's keypoint score, by pycocotools. The only module that imports it."""
from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, List, Optional

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from contract.errors import UserError
from contract.files import PathLike
from pose.coco import annotations_path, load_annotations

METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def score_keypoints(dataroot: PathLike, results: List[Dict[str, Any]], images: Optional[List[int]]) -> Dict[str, float]:
    """The ten COCO keypoint numbers of results in COCO's format, over `images`, or all of the annotations if None.

    pycocotools takes a result's area, which decides APm and APl, from its `bbox`.
    """
    path = annotations_path(dataroot)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its own progress
        truth = COCO()
        truth.dataset = load_annotations(dataroot)
        truth.createIndex()
        unknown = {result["image_id"] for result in results} - truth.imgs.keys()
        if unknown:
            raise UserError(f"{path}: has no photograph {min(unknown)}, which the detections name "
                            f"({len(unknown)} such). Do the detections belong to this --dataroot?")
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "keypoints")  # it adds keys
        if images is not None:
            evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, evaluation.stats.tolist()))
