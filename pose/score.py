"""COCO's keypoint score, by pycocotools. The only module that imports it."""
from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, List, Optional, Union

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from contract.files import PathLike
from pose.annotations import Annotations, load_annotations

METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def score_keypoints(truth: Union[Annotations, PathLike], results: List[Dict[str, Any]],
                    images: Optional[List[int]]) -> Dict[str, float]:
    """The ten COCO keypoint numbers of results in COCO's format, over `images` (default: all of the annotations).

    `truth`: annotations, their file, or a data root. pycocotools takes a result's area, which decides APm and APl, from
    its `bbox`.
    """
    annotations = truth if isinstance(truth, Annotations) else load_annotations(truth)
    annotations.require_images([result["image_id"] for result in results], "detections")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its own progress
        coco = COCO()
        coco.dataset = annotations.as_coco()
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(result) for result in results]), "keypoints")  # it adds keys
        if images is not None:
            evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, evaluation.stats.tolist()))
