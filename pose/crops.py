"""From a photo and a box to the tensor that the network reads.

Axes: H, W of the crop. Colours are RGB. A crop is (H, W, 3) uint8 until it is normalised, then (3, H, W) float32.
"""
from __future__ import annotations

from typing import Callable, Sequence, Tuple

import cv2
import numpy as np

from contract.errors import UserError
from pose.boxes import three_points_above
from pose.photos import read_photograph as read_photograph


def opencv_release() -> str:
    """The major version of OpenCV, which decides the values of crops: 4.10 to 4.14 give equal ones.

    Raises UserError for OpenCV 5, whose warp changes 16 % of the values, by up to 5 of 255.
    """
    release = cv2.__version__.split(".")[0]
    if int(release) >= 5:
        raise UserError(f"this is OpenCV {cv2.__version__}, which computes other crops than OpenCV 4. Run "
                        "pip install 'opencv-python-headless>=4.5.5,<5'")
    return release


def get_affine(center: np.ndarray, scale: np.ndarray, output_size: Tuple[int, int],
               three_points: Callable[..., np.ndarray] = three_points_above) -> np.ndarray:
    """The similarity that takes a box (centre, width and height, float32) to a (height, width) raster: (2, 3) float64.

    From three point pairs in float32, rounded where AlphaPose rounds (`get_affine_transform`); there is no half-pixel
    term. A box of no size gives the zero matrix, which makes a constant crop.
    """
    height, width = output_size
    target = three_points(np.array([width * 0.5, height * 0.5], np.float32), np.float32(width))
    return cv2.getAffineTransform(three_points(center, scale[0]), target)


def crop_person(image: np.ndarray, center: np.ndarray, scale: np.ndarray, input_size: Tuple[int, int],
                three_points: Callable[..., np.ndarray] = three_points_above) -> np.ndarray:
    """(H0, W0, 3) uint8 photo -> (H, W, 3) uint8 crop, bilinear; black where the box leaves the photo."""
    height, width = input_size
    matrix = get_affine(center, scale, input_size, three_points)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)


class Normalizer:
    """(H, W, 3) uint8 crop -> (3, H, W) float32 tensor: value / 255 - mean, then / std, per channel of R, G, B.

    A crop has 256 possible values, so the arithmetic is done once for each and looked up. AlphaPose divides by 255
    only when some value of the crop exceeds 1 (`im_to_torch`), hence the second table.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        values = np.arange(256, dtype=np.float32)
        mean32, std32 = np.array(mean, np.float32)[:, None], np.array(std, np.float32)[:, None]
        self.tables = (values / np.float32(255) - mean32) / std32  # (3, 256)
        self.dark_tables = (values - mean32) / std32

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        tables = self.tables if crop.max() > 1 else self.dark_tables
        tensor = np.empty((3, *crop.shape[:2]), np.float32)
        for channel, table, values in zip(cv2.split(crop), tables, tensor):
            cv2.LUT(channel, table, dst=values)
        return tensor


def mirror(crop: np.ndarray) -> np.ndarray:
    """Mirror crops along their W: (..., H, W) float32 or (..., H, W, 3) uint8. Shape and dtype stay; contiguous."""
    pixel = crop.shape[-1:] if crop.dtype == np.uint8 else ()
    return cv2.flip(crop.reshape(-1, crop.shape[-1 - len(pixel)], *pixel), 1).reshape(crop.shape)
