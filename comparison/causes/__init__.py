"""What may be wrong when two results differ.

A cause is a module: `TITLE`, and `test(case)`, which holds it against the data and gives a Finding. CAUSES is in the
order in which they are tested: flat results first, for they look like many others; then what is cheap; what one of them
accounts for is not sought again.
"""
from __future__ import annotations

from comparison.causes import (
    activation,
    batch_tail,
    bgr,
    colour,
    cropping,
    few_people,
    file_order,
    flat,
    flip_shift,
    joint_order,
    layout,
    left_right,
    mirrored,
    normalisation,
    offset,
    person_scores,
    precision,
    saturation,
    scaled,
    storage,
    transposed,
    uint8,
    weights,
)

CAUSES = {
    "flat": flat,
    "storage": storage,
    "file_order": file_order,
    "batch_tail": batch_tail,
    "few_people": few_people,
    "left_right": left_right,
    "joint_order": joint_order,
    "transposed": transposed,
    "flip_shift": flip_shift,
    "person_scores": person_scores,
    "activation": activation,
    "saturation": saturation,
    "scaled": scaled,
    "mirrored": mirrored,
    "offset": offset,
    "layout": layout,
    "bgr": bgr,
    "colour": colour,
    "normalisation": normalisation,
    "uint8": uint8,
    "cropping": cropping,
    "precision": precision,
    "weights": weights,
}
