"""Decoded people as COCO results.

Axes: N people, K joints. Keypoints are (N, K, 2) photo pixels, scores (N, K).
"""
from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from contract.manifest import Manifest
from pose.boxes import areas_of
from pose.coco import PERSON
from pose.oks import nms_per_photograph, rescore
from pose.people import GROUND_TRUTH, spec_of


def results_of(manifest: Manifest, keypoints: np.ndarray, scores: np.ndarray,
               nms: str = "greedy") -> List[Dict[str, Any]]:
    """COCO results of the people of a manifest, from (N, K, 2) keypoints and (N, K) scores, as AlphaPose makes them for
    this kind of boxes. `nms` is a name in pose.oks.NMS."""
    if manifest.settings["boxes"] == GROUND_TRUTH:
        return ground_truth_results(manifest, keypoints, scores)
    return detection_results(manifest, keypoints, scores, nms)


def detection_results(manifest: Manifest, keypoints: np.ndarray, scores: np.ndarray, nms: str) -> List[Dict[str, Any]]:
    """COCO results of the people that OKS-NMS keeps, from (N, K, 2) keypoints and (N, K) scores. Boxes and scores are
    rounded to float32, as in AlphaPose."""
    areas = areas_of(manifest["crop_xyxy"])
    person_scores = rescore(scores, manifest["score"].astype(np.float32).astype(np.float64))
    keep = nms_per_photograph(manifest["image_id"], keypoints, person_scores, areas, nms, spec_of(manifest).skeleton)
    columns = zip(manifest["bbox_xywh"].astype(np.float32)[keep].tolist(), manifest["image_id"][keep].tolist(),
                  areas[keep].tolist(), person_scores[keep].tolist(), coco_keypoints(keypoints, scores)[keep].tolist())
    return [{"bbox": bbox, "image_id": image_id, "area": area, "score": score, "category_id": PERSON,
             "keypoints": joints} for bbox, image_id, area, score, joints in columns]


def ground_truth_results(manifest: Manifest, keypoints: np.ndarray, scores: np.ndarray) -> List[Dict[str, Any]]:
    """COCO results of annotated boxes, from (N, K, 2) keypoints and (N, K) scores, as AlphaPose's validate_gt makes
    them. Nobody is dropped. The score is the mean joint score plus the best one. `bbox` holds the corners of the crop,
    which pycocotools reads as xywh, so APm and APl have little meaning."""
    person_scores = scores.mean(axis=1) + scores.max(axis=1)
    columns = zip(manifest["crop_xyxy"].tolist(), manifest["image_id"].tolist(), person_scores.tolist(),
                  coco_keypoints(keypoints, scores).tolist())
    return [{"bbox": bbox, "image_id": image_id, "score": score, "category_id": PERSON, "keypoints": joints}
            for bbox, image_id, score, joints in columns]


def coco_keypoints(keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N, K, 2), (N, K) -> (N, 3 K): x, y, score of each joint."""
    return np.concatenate([keypoints, scores[:, :, None]], axis=2).reshape(len(keypoints), -1)
