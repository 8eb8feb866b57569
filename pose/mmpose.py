"""mmpose's person boxes, crops and peaks, as its versions 0.x and 1.x compute them (top-down, without UDP).

They differ from AlphaPose's, and from each other, in where numbers are rounded, in the quarter pixel of a peak near the
border, and in where a joint without a positive value goes. Formats as in pose.boxes.
"""
from __future__ import annotations

from functools import partial
from typing import Tuple

import numpy as np

from pose.boxes import BOX_PADDING
from pose.heatmaps import find_peaks, moves_by_axis

STANDARD_PERSON = np.float32(200)  # 0.x keeps sizes in units of this many pixels

find_peaks_0x = partial(find_peaks, empty=-1)
find_peaks_1x = partial(find_peaks, empty=-1, moves=moves_by_axis)


def box_to_center_scale_0x(bbox_xyxy: np.ndarray, aspect_ratio: float) -> Tuple[np.ndarray, np.ndarray]:
    """(N, 4) boxes -> (N, 2) centres and (N, 2) padded widths and heights, float32, with width / height = aspect_ratio.

    float64 in, rounded where TopDownGetBboxCenterScale and get_affine_transform of 0.x round.
    """
    x, y, right, bottom = np.asarray(bbox_xyxy, np.float64).reshape(-1, 4).T
    width, height = right - x, bottom - y
    center = np.stack([x + width * 0.5, y + height * 0.5], axis=1).astype(np.float32)
    size = _widen(width, height, aspect_ratio).astype(np.float32) / STANDARD_PERSON
    return center, size * np.float32(BOX_PADDING) * STANDARD_PERSON


def box_to_center_scale_1x(bbox_xyxy: np.ndarray, aspect_ratio: float) -> Tuple[np.ndarray, np.ndarray]:
    """(N, 4) boxes -> (N, 2) centres and (N, 2) sizes as `box_to_center_scale_0x`, but in float32 throughout, as 1.x
    computes from the xywh of detections (bbox_xywh2xyxy, GetBBoxCenterScale, TopdownAffine)."""
    corners = np.asarray(bbox_xyxy, np.float64).reshape(-1, 4)
    low = corners[:, :2].astype(np.float32)
    high = low + (corners[:, 2:] - corners[:, :2]).astype(np.float32)
    width, height = ((high - low) * np.float32(BOX_PADDING)).T
    return (low + high) * np.float32(0.5), _widen(width, height, np.float32(aspect_ratio))


def _widen(width: np.ndarray, height: np.ndarray, aspect_ratio: float) -> np.ndarray:
    """(N,), (N,) -> (N, 2): the shorter side grows to meet the aspect ratio."""
    return np.stack([np.maximum(width, height * aspect_ratio), np.maximum(height, width / aspect_ratio)], axis=1)


def three_points_beside(center: np.ndarray, width: np.float32) -> np.ndarray:
    """(3, 2) float32 as pose.boxes.three_points_above, of 1.x: the centre, the point half a WIDTH to its left, and the
    centre turned by a quarter about that."""
    left = center - np.array([width * np.float32(0.5), 0], np.float32)
    x, y = center - left
    return np.stack([center, left, left + np.array([-y, x], np.float32)])
