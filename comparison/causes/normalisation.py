"""Mean and standard deviation left out, applied twice, or those of another convention."""
from __future__ import annotations

import numpy as np

from comparison.causes.case import Case
from comparison.causes.crops import colours, normalised, normalised_by
from comparison.causes.finding import Finding, best_of
from contract.pixels import ALPHAPOSE_MEAN, ALPHAPOSE_STD

TITLE = "normalisation missing, applied twice or with other constants"
CONVENTIONS = {"AlphaPose's": (ALPHAPOSE_MEAN, ALPHAPOSE_STD),
               "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
               "0.5 and 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), "0.5 and 1": ((0.5, 0.5, 0.5), (1, 1, 1))}


def test(case: Case) -> Finding:
    spec = case.options.spec
    mean, std, nothing, one = spec.mean, spec.std, (0, 0, 0), (1, 1, 1)
    others = {"the mean in reversed order": (mean[::-1], std),
              "mean and std in reversed order": (mean[::-1], std[::-1]), "the mean left out": (nothing, std),
              "the std left out": (mean, one), **CONVENTIONS}
    changes = {f"normalising with {words}": lambda crops, by=by: normalised_by(colours(crops, spec), *by)
               for words, by in others.items() if by != (mean, std)}
    return best_of(case.crop_trials("normalisation", {
        "leaving out the normalisation (values 0..1)": lambda crops: colours(crops, spec),
        "normalising twice": lambda crops: normalised(crops, spec),
        "dividing by 256": lambda crops: normalised(colours(crops, spec) * np.float32(255 / 256), spec),
        "rounding normalised values to whole numbers": np.rint, **changes}))
