"""From a person's region of an image to what a ReID model takes.

FastReID resizes in two ways, up to 84 grey levels apart: its evaluation, which published mAP is of, with Pillow's
antialiased bicubic filter, its demo and deploy scripts with OpenCV's cubic interpolation. So the way has a name.
"""
from __future__ import annotations

from typing import Callable, Dict, Sequence, Tuple

import cv2
import numpy as np

from contract.errors import UserError
from contract.pixels import UINT8


def resize_pil(image: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8 -> (H, W, 3) uint8 by Pillow's bicubic filter, whose support grows where it shrinks."""
    try:
        from PIL import Image  # here, because only this needs Pillow
    except ModuleNotFoundError:
        raise UserError("the crops of FastReID's evaluation need the Python package Pillow: python3 -m pip install -r "
                        "requirements-reid.txt") from None
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def resize_cv2(image: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8 -> (H, W, 3) uint8 by OpenCV's cubic interpolation of the 4 x 4 nearest pixels."""
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)


RESIZES: Dict[str, Callable[[np.ndarray, Tuple[int, int]], np.ndarray]] = {"pil": resize_pil, "cv2": resize_cv2}


def region(image: np.ndarray, bbox_xywh: Sequence[float]) -> np.ndarray:
    """The part of (H0, W0, 3) that a box covers, cut to the image; at least one pixel."""
    height, width = image.shape[:2]
    x, y, w, h = bbox_xywh
    left, top = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
    right, bottom = min(max(round(x + w), left + 1), width), min(max(round(y + h), top + 1), height)
    return image[top:bottom, left:right]


def to_row(crop: np.ndarray, dtype: str, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the input of a model: its bytes, or (3, H, W) float32, (pixel / 255 - mean) / std.

    A mean of 0 and a std of 1 / 255 leave the pixels, exactly: FastReID's models normalise inside.
    """
    if dtype == UINT8:
        return crop
    pixels = np.ascontiguousarray(crop.transpose(2, 0, 1), np.float32)
    mean32, std32 = (np.array(values, np.float32)[:, None, None] for values in (mean, std))
    if not mean32.any() and (255 * np.array(std) == 1).all():
        return pixels
    return (pixels / np.float32(255) - mean32) / std32
