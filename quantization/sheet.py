"""A contact sheet: what int8 was calibrated on, to be looked at. Wrong crops are seen at once, and no number tells."""
from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from contract.pixels import UINT8
from contract.spec import Tensors
from pose.people import spec_of
from quantization.crops import Source, share_out

COLUMNS, MOST, HEIGHT, QUALITY = 8, 48, 96, 85  # crops in a row and in all; pixels of one; of the JPEG


def contact_sheet(source: Source, people: int) -> bytes:
    """A JPEG of the first crop of each of the bins, boxes or photos that `people` of `source` are calibrated on, at
    most MOST of them, spread evenly."""
    numbers = share_out(source, people)[0]
    chosen = [numbers[place] for place in np.linspace(0, len(numbers) - 1, min(MOST, len(numbers))).astype(int)]
    spec: Any = source.spec
    manifest = getattr(source, "manifest", None)
    if isinstance(spec, Tensors) and manifest is not None and "config" in manifest.settings:
        spec = spec_of(manifest)
    pictures = [thumbnail(source.read(range(number, number + 1))[0], spec) for number in chosen]
    height, width, _ = pictures[0].shape
    sheet = np.zeros((-(-len(pictures) // COLUMNS) * height, min(COLUMNS, len(pictures)) * width, 3), np.uint8)
    for number, picture in enumerate(pictures):
        y, x = number // COLUMNS * height, number % COLUMNS * width
        sheet[y:y + height, x:x + width] = picture
    return cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def thumbnail(row: np.ndarray, spec: Any) -> np.ndarray:
    """A row as the network takes it -> (HEIGHT, w, 3) uint8 RGB: the normalisation undone, where `spec` tells it."""
    if spec.dtype != UINT8:
        pixels = row.transpose(1, 2, 0) * np.float32(getattr(spec, "std", 1)) + np.float32(getattr(spec, "mean", 0))
        row = np.clip(255 * pixels, 0, 255).round().astype(np.uint8)
    height, width = row.shape[:2]
    return cv2.resize(row, (round(width * HEIGHT / height), HEIGHT), interpolation=cv2.INTER_AREA)
