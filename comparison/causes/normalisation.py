"""Mean and standard deviation left out, applied twice, or those of another convention."""
from __future__ import annotations

from typing import Dict

import numpy as np

from comparison.causes.case import Case
from comparison.causes.crops import colours, normalised, normalised_by
from comparison.causes.rerun import Change
from comparison.finding import Finding, best_of
from contract.pixels import ALPHAPOSE_MEAN, ALPHAPOSE_STD
from pose.spec import PoseSpec

TITLE = "normalisation missing, applied twice or with other constants"
CONVENTIONS = {"AlphaPose's": (ALPHAPOSE_MEAN, ALPHAPOSE_STD),
               "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
               "CLIP's": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
               "0.5 and 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), "0.5 and 1": ((0.5, 0.5, 0.5), (1, 1, 1))}

CAFFE_MEAN = (103.939, 116.779, 123.68)  # of B, G and R, 0..255


def test(case: Case) -> Finding:
    return best_of(case.crop_trials("normalisation", normalisations(case.options.spec)))


def normalisations(spec: PoseSpec) -> Dict[str, Change]:
    """What other programs do -> crops as they come, changed to that."""
    mean, std, nothing, one = spec.mean, spec.std, (0, 0, 0), (1, 1, 1)
    others = {"the mean in reversed order": (mean[::-1], std),
              "mean and std in reversed order": (mean[::-1], std[::-1]), "the mean left out": (nothing, std),
              "the std left out": (mean, one), **CONVENTIONS}
    changes = {f"normalising with {words}": lambda crops, by=by: normalised_by(colours(crops, spec), *by)
               for words, by in others.items() if by != (mean, std)}
    return {
        "leaving out the normalisation (values 0..1)": lambda crops: colours(crops, spec),
        "normalising twice": lambda crops: normalised(crops, spec),
        "dividing by 256": lambda crops: normalised(colours(crops, spec) * np.float32(255 / 256), spec),
        "rounding normalised values to whole numbers": np.rint,
        "cutting normalised values to whole numbers": np.trunc,
        "subtracting the mean twice": lambda crops: normalised_by(
            colours(crops, spec), tuple(2 * value for value in mean), std),
        "multiplying by the std": lambda crops: normalised_by(colours(crops, spec), mean, tuple(
            1 / value for value in std)),
        "B, G, R less Caffe's means of bytes": lambda crops: normalised_by(
            255 * colours(crops, spec)[:, ::-1], CAFFE_MEAN, one), **changes}
