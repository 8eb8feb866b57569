"""The crop cut from the photo in another way, or from the photo as it is not seen."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import cv2
import numpy as np

from comparison.causes.case import Case, Cut
from comparison.finding import Finding, best_of
from pose.crops import get_affine

TITLE = "crops cut otherwise: interpolation, border, box, half a pixel, or the photo turned"
PADDING = 1.25  # of AlphaPose's boxes, which are the manifest's crops
SIZES = (1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.35, 1.4, 1.5)
INTERPOLATIONS = {"nearest": cv2.INTER_NEAREST, "cubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA,
                  "Lanczos": cv2.INTER_LANCZOS4}
BORDERS: Dict[str, Dict[str, Any]] = {
    **{f"a grey border ({value})": {"borderValue": (value,) * 3} for value in (114, 127, 128)},
    "a white border": {"borderValue": (255,) * 3},
    "a border that repeats the edge": {"borderMode": cv2.BORDER_REPLICATE},
    "a border that mirrors the edge": {"borderMode": cv2.BORDER_REFLECT_101}}
MOVES = [*((by, by) for by in (-1, -0.5, -0.25, 0.25, 0.5, 1)), *((by, 0) for by in (-1, -0.5, 0.5, 1)),
         *((0, by) for by in (-1, -0.5, 0.5, 1))]
# (H, W, 3) -> the photo as it is stored, of EXIF's orientations
TURNS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by 180 degrees": lambda image: image[::-1, ::-1], "turned left": lambda image: np.rot90(image),
    "turned right": lambda image: np.rot90(image, -1), "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1]}



def test(case: Case) -> Finding:
    size = case.options.spec.input_size
    as_stored = {"photos as they are stored, not turned as their EXIF says": lambda image, box: warp(image, box, size)}
    return best_of([*case.photo_trials("cropping", cuts(size)),
                    *case.photo_trials("cropping", as_stored, read_as_stored)])


def read_as_stored(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert image is not None  # it was read before
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def warp(image: np.ndarray, box: np.ndarray, input_size: Tuple[int, int], size: float = 1.0, step: Any = np.eye(3),
         **options: Any) -> np.ndarray:
    """The crop of a box `size` times as large; `step` (3, 3) is done after the crop's own affine map."""
    center, scale = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * np.float32(size)
    matrix = step @ np.vstack([get_affine(center, scale, input_size), (0, 0, 1)])
    return cv2.warpAffine(np.ascontiguousarray(image), matrix[:2], input_size[::-1],
                          **{"flags": cv2.INTER_LINEAR, **options})


def affine(x: float = 1, y: float = 1, dx: float = 0, dy: float = 0) -> np.ndarray:
    return np.array([[x, 0, dx], [0, y, dy], [0, 0, 1]])


def cuts(input_size: Tuple[int, int]) -> Dict[str, Cut]:
    """What other tools do -> the crop that it makes."""
    height, width = input_size

    def with_options(**options: Any) -> Cut:
        return lambda image, box: warp(image, box, input_size, **options)

    def stretched(image: np.ndarray, box: np.ndarray) -> np.ndarray:
        left, top, right, bottom = (max(int(value), 0) for value in box)
        return cv2.resize(image[top:max(bottom, top + 1), left:max(right, left + 1)], (width, height))

    def twice(image: np.ndarray, box: np.ndarray) -> np.ndarray:
        small = warp(image, box, input_size, step=affine(0.5, 0.5))[:height // 2, :width // 2]
        return cv2.resize(small, (width, height))

    made = {f"{name} interpolation": with_options(flags=flag) for name, flag in INTERPOLATIONS.items()}
    made.update({name: with_options(**options) for name, options in BORDERS.items()})
    made.update({f"a box {size:g} times as large": with_options(size=size / PADDING) for size in SIZES})
    made.update({f"pixels taken {x:+g}, {y:+g} pixels off": with_options(step=affine(dx=x, dy=y))
                 for x, y in MOVES})
    made["corners aligned"] = with_options(step=affine((width - 1) / width, (height - 1) / height))
    made["boxes stretched to the input"], made["cutting at half the size and enlarging"] = stretched, twice
    made.update({f"photos {name}, as EXIF's orientation does": lambda image, box, turn=turn: warp(
        turn(image), box, input_size) for name, turn in TURNS.items()})
    return made
