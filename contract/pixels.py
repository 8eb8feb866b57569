"""How the bytes of a crop become what a network takes: the words for it, and the constants."""
from __future__ import annotations

import math
from decimal import Decimal
from typing import Dict, Sequence, Tuple

FLOAT32, UINT8 = "float32", "uint8"
DTYPES = (FLOAT32, UINT8)  # of bins: normalised (3, H, W), or the crop's own bytes, (H, W, 3)

# AlphaPose subtracts these from R, G, B in this order and divides by nothing. They look like ImageNet's means in the
# order B, G, R; the published weights were trained so.
ALPHAPOSE_MEAN = (0.406, 0.457, 0.480)
ALPHAPOSE_STD = (1.0, 1.0, 1.0)

# ImageNet's, of R, G, B from 0 to 255, as FastReID's models subtract and divide by them inside.
FASTREID_MEAN, FASTREID_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def pixel_constants(mean: Sequence[float], std: Sequence[float]) -> Dict[str, Tuple[float, ...]]:
    """`mean` and `std` of R, G, B in 0..1 -> what normalises a byte: ((pixel - mean_chn) - min_chn) * var_reci_chn.

    The names and the split are of Ascend's AIPP, whose mean_chn takes whole numbers and keeps min_chn, the rest, in
    float16. In exact arithmetic it is (pixel / 255 - mean) / std.
    """
    means = [255 * Decimal(repr(value)) for value in mean]  # as written: 103.53 and not 103.53000000000000111
    wholes = [min(max(math.floor(value), 0), 255) for value in means]
    return {"mean_chn": tuple(wholes),
            "min_chn": tuple(float(value - whole) for value, whole in zip(means, wholes)),
            "var_reci_chn": tuple(1 / (255 * value) for value in std)}
