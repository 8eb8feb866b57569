"""Person boxes: from detections to the box that is cropped.

Axes: N people. Formats are in the names: xywh is left, top, width, height; xyxy is left, top, right, bottom; pixels.
"""
from __future__ import annotations

from typing import Tuple

import numpy as np

BOX_PADDING = 1.25  # a crop is this much larger than its box, so that raised hands stay inside
NO_CENTER = -1.0  # AlphaPose marks "no box" by this centre x and does not pad it; kept for bit equality


def box_to_center_scale(bbox_xyxy: np.ndarray, aspect_ratio: float) -> Tuple[np.ndarray, np.ndarray]:
    """(N, 4) boxes -> (N, 2) centres and (N, 2) padded widths and heights, float32, with width / height = aspect_ratio.

    The shorter side grows to meet the aspect ratio. Nothing is clipped to the photo, and a width that is negative
    is shorter than any, so it grows too (AlphaPose's `_box_to_center_scale`). float64 in, rounded where AlphaPose
    rounds: the last bits decide whether a crop is equal to AlphaPose's.
    """
    x, y, right, bottom = np.asarray(bbox_xyxy, np.float64).reshape(-1, 4).T
    width, height = right - x, bottom - y
    center = np.stack([x + width * 0.5, y + height * 0.5], axis=1).astype(np.float32)
    too_wide, too_tall = width > aspect_ratio * height, width < aspect_ratio * height
    scale = np.stack([np.where(too_tall, height * aspect_ratio, width),
                      np.where(too_wide, width / aspect_ratio, height)], axis=1).astype(np.float32)
    padded = (scale * np.float32(BOX_PADDING)).astype(np.float32)
    return center, np.where(center[:, :1] != NO_CENTER, padded, scale)


def areas_of(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N, 4) corners -> (N,) float64."""
    low, high = np.split(boxes_xyxy.astype(np.float64), 2, axis=1)
    return (high - low).prod(axis=1)


def center_scale_to_xyxy(center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(N, 2) centres and (N, 2) widths and heights -> (N, 4) float32 corners, computed in float64 as AlphaPose does."""
    low = center.astype(np.float64) - scale.astype(np.float64) * 0.5
    return np.concatenate([low, low + scale.astype(np.float64)], axis=1).astype(np.float32)
