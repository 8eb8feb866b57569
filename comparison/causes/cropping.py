"""The crop cut from the photo in another way."""
from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import cv2
import numpy as np

from comparison.causes.case import Case
from comparison.causes.finding import NOT_TESTED, Finding, best_of, judge_trial
from pose.crops import Normalizer, get_affine, mirror

TITLE = "crops cut otherwise: interpolation, border, size of the box or half a pixel"
PADDING = 1.25  # of AlphaPose's boxes, which are the manifest's crops
SIZES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
INTERPOLATIONS = {"nearest": cv2.INTER_NEAREST, "cubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA,
                  "Lanczos": cv2.INTER_LANCZOS4}
BORDERS = {"a grey border (114)": 114, "a grey border (127)": 127, "a grey border (128)": 128, "a white border": 255}

Cut = Callable[[np.ndarray, np.ndarray], np.ndarray]  # photo, (4,) crop_xyxy -> (H, W, 3) uint8


def test(case: Case) -> Finding:
    missing = case.no_model("cropping")
    if missing or case.model is None or case.model.rerun.photos is None or not case.a.readers:
        need = "needs --dataroot, --manifest, --model and --input, to cut the crops from their photos again"
        return missing or Finding("cropping", NOT_TESTED, need)
    photos, manifest = case.model.rerun.photos, case.a.manifest
    images = [photos.read(int(manifest["image_id"][row])) for row in case.model.rows]
    boxes = manifest["crop_xyxy"][case.model.rows].astype(np.float32)
    normalise = Normalizer(case.options.spec.mean, case.options.spec.std)
    trials: List[Finding] = []
    for words, cut in cuts(case.options.spec.input_size).items():
        crops = np.stack([normalise(cut(image, box)) for image, box in zip(images, boxes)])
        crops = mirror(crops) if case.model.mirrored else crops
        trials.append(judge_trial("cropping", f"{words}, for {case.model.name},",
                                  case.model.left(case.model.rerun.infer(crops))))
    return best_of(trials)


def cuts(input_size: Tuple[int, int]) -> Dict[str, Cut]:
    """What other tools do -> the crop that it makes."""
    height, width = input_size

    def warp(image: np.ndarray, box: np.ndarray, size: float = 1.0, moved: float = 0.0, **options: int) -> np.ndarray:
        center, scale = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * np.float32(size)
        matrix = get_affine(center, scale, input_size) + np.array([[0, 0, moved], [0, 0, moved]])
        return cv2.warpAffine(image, matrix, (width, height), **{"flags": cv2.INTER_LINEAR, **options})

    made: Dict[str, Cut] = {f"{name} interpolation": lambda image, box, flag=flag: warp(image, box, flags=flag)
                            for name, flag in INTERPOLATIONS.items()}
    made.update({name: lambda image, box, value=value: warp(image, box, borderValue=(value,) * 3)
                 for name, value in BORDERS.items()})
    made["a border that repeats the edge"] = lambda image, box: warp(image, box, borderMode=cv2.BORDER_REPLICATE)
    made.update({f"a box {size:g} times as large": lambda image, box, size=size: warp(image, box, size / PADDING)
                 for size in SIZES})
    made.update({f"pixels taken {moved:+g} pixels off": lambda image, box, moved=moved: warp(image, box, moved=moved)
                 for moved in (-0.5, 0.5)})
    return made
