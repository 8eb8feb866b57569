"""Photos or crops that were compressed once more."""
from __future__ import annotations

import cv2
import numpy as np

from comparison.causes.case import Case
from comparison.causes.cropping import warp
from comparison.causes.crops import colours, normalised
from comparison.finding import FOUND, Finding, best_of

TITLE = "photos or crops compressed as JPEG again"
QUALITIES = (30, 40, 50, 60, 70, 75, 80, 85, 90, 92, 95)  # what tools have by default, and tens


def test(case: Case) -> Finding:
    spec = case.options.spec

    def again(crops: np.ndarray, quality: int) -> np.ndarray:
        pixels = np.rint(np.clip(colours(crops, spec), 0, 1).transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        made = np.stack([compressed(crop, quality) for crop in pixels])
        return normalised(made.transpose(0, 3, 1, 2) / np.float32(255), spec)

    by_crops = best_of(case.crop_trials("jpeg", {
        f"crops of quality {quality}": lambda crops, quality=quality: again(crops, quality) for quality in QUALITIES}))
    return by_crops if by_crops.status == FOUND else best_of([by_crops, *case.photo_trials("jpeg", {
        f"photos of quality {quality}": lambda image, box, quality=quality: warp(
            compressed(image, quality), box, spec.input_size) for quality in QUALITIES})])


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, written and read again."""
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1]
