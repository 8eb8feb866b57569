"""Person boxes: from detections to the box that is cropped, and from there back to the photo.

Axes: N people, K joints. Formats are in the names: xywh is left, top, width, height; xyxy is left, top, right,
bottom; pixels.
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


def three_points_above(center: np.ndarray, width: np.float32) -> np.ndarray:
    """(3, 2) float32: the centre, the point half a WIDTH above it, and the centre turned by a quarter about that."""
    above = center - np.array([0, width * np.float32(0.5)], np.float32)
    x, y = center - above
    return np.stack([center, above, above + np.array([-y, x], np.float32)])


def positions_to_image(positions: np.ndarray, crop_xyxy: np.ndarray, heatmap_size: Tuple[int, int]) -> np.ndarray:
    """(N, K, 2) heatmap positions of the (N, 4) crops -> (N, K, 2) float32 photo pixels.

    The inverse of `pose.crops.get_affine` for a heatmap raster: the crop's WIDTH scales both axes, and the centres
    correspond without a half-pixel term.
    """
    low, high = crop_xyxy[:, :2].astype(np.float64), crop_xyxy[:, 2:].astype(np.float64)
    height, width = heatmap_size
    scale = (high[:, :1] - low[:, :1]) / width
    center = low + (high - low) * 0.5
    return (center[:, None] + (positions - (width / 2, height / 2)) * scale[:, None]).astype(np.float32)
