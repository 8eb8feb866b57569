"""Pictures in and out: any file that OpenCV reads, as RGB, upright, without transparency."""
from __future__ import annotations

import os
from typing import Optional

import cv2
import numpy as np

from contract.errors import UserError
from contract.files import PathLike, make_folder, write_file
from pose.photos import MOST_PIXELS, PNG_START, read_photograph

WHOLE = (".jpeg", ".jpg", ".png")  # of these the end is looked for, and their size before they are decoded
SUFFIXES = (*WHOLE, ".bmp", ".tif", ".tiff", ".webp")
ALPHA = (4, 6)  # colour types of a PNG with transparency
COLOR_TYPE = 25  # where a PNG says it
JPEG_QUALITY = 92


def read_picture(path: PathLike) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF says; what is transparent becomes white.

    Raises UserError for a file that is missing, broken or larger than pose.photos.MOST_PIXELS.
    """
    if os.fspath(path).lower().endswith(WHOLE):
        image = read_photograph(path)
        return _on_white(path, image) if _has_alpha(path) else image
    decoded = _decoded(path, cv2.IMREAD_COLOR)
    if decoded is None:
        raise UserError(f"{path}: not a picture that OpenCV can decode, or a damaged one")
    if decoded.shape[0] * decoded.shape[1] > MOST_PIXELS:
        raise UserError(f"{path}: {decoded.shape[1]}x{decoded.shape[0]} pixels, expected at most {MOST_PIXELS} in all. "
                        "Scale it down")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _decoded(path: PathLike, how: int) -> Optional[np.ndarray]:
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), how)
    except cv2.error:  # an empty file, or a size beyond what OpenCV takes
        return None


def _has_alpha(path: PathLike) -> bool:
    with open(path, "rb") as file:
        head = file.read(COLOR_TYPE + 1)
    return head.startswith(PNG_START) and head[COLOR_TYPE] in ALPHA


def _on_white(path: PathLike, image: np.ndarray) -> np.ndarray:
    """An RGB image laid on white, as transparent as its file says."""
    with_alpha = _decoded(path, cv2.IMREAD_UNCHANGED)
    assert with_alpha is not None  # it was decoded before
    alpha = with_alpha[:, :, 3:]
    share = alpha.astype(np.float32) / np.iinfo(alpha.dtype).max
    return np.round(image * share + 255 * (1 - share)).astype(np.uint8)


def write_picture(path: PathLike, image: np.ndarray) -> None:
    """Write RGB as .jpg or .png, by the suffix; the file is complete or not there."""
    make_folder(os.path.dirname(path) or ".")
    suffix = os.path.splitext(path)[1]
    _, content = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    write_file(path, content)
