"""Pictures in and out: JPEG, PNG, BMP, TIFF and WEBP, whatever their names end with, as RGB, upright, on white."""
from __future__ import annotations

import os
from typing import Optional

import cv2
import numpy as np

from contract.errors import UserError
from contract.files import PathLike, make_folder, write_file
from pose.photos import FORMATS, read_photograph
from pose.picture_header import read_header

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp")
JPEG_QUALITY = 92


def read_picture(path: PathLike) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF says; what is transparent becomes white.

    Raises UserError for a file that is missing, broken or larger than pose.picture_header.MOST_PIXELS.
    """
    header = read_header(path)
    if header is None:
        raise UserError(f"{path}: not a picture, or a damaged one: expected JPEG, PNG, BMP, TIFF or WEBP")
    image = read_photograph(path) if header.format in FORMATS else _colors(path)
    if image is None:
        raise UserError(f"{path}: a {header.format} that OpenCV cannot decode, or a damaged one")
    return _on_white(path, image, header.turn) if header.has_alpha else image


def _colors(path: PathLike) -> Optional[np.ndarray]:
    decoded = _decoded(path, cv2.IMREAD_COLOR)
    return None if decoded is None else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _decoded(path: PathLike, how: int) -> Optional[np.ndarray]:
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), how)
    except cv2.error:  # a size beyond what OpenCV takes
        return None


def _on_white(path: PathLike, image: np.ndarray, turn: int) -> np.ndarray:
    """An RGB image laid on white, as transparent as its file says; unchanged where OpenCV gives no transparency."""
    stored = _decoded(path, cv2.IMREAD_UNCHANGED)  # which OpenCV does not turn
    if stored is None or stored.ndim != 3 or stored.shape[2] != 4 or stored.dtype.kind != "u":
        return image
    laid, most = np.empty((*stored.shape[:2], 3), np.uint8), np.iinfo(stored.dtype).max
    for row, source in zip(laid, stored):  # one by one, because floats of a large picture take gigabytes
        colors, alpha = source[:, 2::-1].astype(np.float32), source[:, 3:].astype(np.float32) / most
        row[:] = np.round(255 / most * (colors * alpha + most * (1 - alpha)))
    return turned(laid, turn)


def turned(image: np.ndarray, turn: int) -> np.ndarray:
    """An image whose EXIF has this orientation, 1 to 8, as it is to be seen: 5 to 8 change columns for rows."""
    image = image.transpose(1, 0, 2) if turn > 4 else image
    down, right = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[turn]
    return np.ascontiguousarray(image[::down, ::right])


def write_picture(path: PathLike, image: np.ndarray) -> None:
    """Write RGB as .jpg or .png, by the suffix; the file is complete or not there."""
    make_folder(os.path.dirname(path) or ".")
    suffix = os.path.splitext(path)[1]
    _, content = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    write_file(path, content)
