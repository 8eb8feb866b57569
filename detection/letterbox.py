"""A photo into the detector's square with grey bars, and boxes back from there.

The two ways differ by up to a pixel, as AlphaPose's do: the picture is pasted at whole pixels, the boxes are moved by
the exact half of what is left. The published numbers contain that, so it stays.
"""
from __future__ import annotations

from typing import Tuple

import cv2
import numpy as np

GREY = 128  # of the bars

Size = Tuple[int, int]  # width, height


def letterbox(image: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, 3) uint8 -> (height, width, 3) uint8: scaled to fit, bicubic, in the middle of a grey canvas."""
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    # int() cuts, and the float product can fall just below a whole number: 607 for some widths at 608. A photo of
    # extreme proportions keeps one pixel, where the original fails.
    inner = max(int(width * scale), 1), max(int(height * scale), 1)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas = np.full((size[1], size[0], 3), GREY, np.uint8)
    canvas[top:top + inner[1], left:left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_CUBIC)
    return canvas


def network_input(canvas: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 RGB -> (3, height, width) float32 from 0 to 1."""
    return np.divide(canvas.transpose(2, 0, 1), np.float32(255), order="C", dtype=np.float32)


def boxes_to_photograph(boxes_xyxy: np.ndarray, size: Size, photograph: Size) -> np.ndarray:
    """(n, 4) float32 corners in the letterbox -> in pixels of the photo, clipped to [0, width] x [0, height]."""
    inner, outer = np.array(size, np.float32), np.array(photograph, np.float32)
    scale = (inner / outer).min()
    corners = boxes_xyxy.reshape(-1, 2, 2) - (inner - scale * outer) / np.float32(2)  # (n, 2 corners, x y)
    return np.clip(corners / scale, 0, outer).reshape(-1, 4)
