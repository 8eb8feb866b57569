"""What may be wrong when two results differ.

A cause is a module: `TITLE`, and `test(case)`, which tries it on the data and gives a Finding. CAUSES is in the order
in which they are tested: flat results first, for they look like many others; then what is cheap. What one of them
accounts for is not sought again. GENERAL say what a difference is like, and only count where no cause of it is found.
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
    function,
    joint_order,
    jpeg,
    layout,
    left_right,
    mirrored,
    normalisation,
    offset,
    person_scores,
    precision,
    resampling,
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
    "resampling": resampling,
    "layout": layout,
    "bgr": bgr,
    "colour": colour,
    "normalisation": normalisation,
    "uint8": uint8,
    "cropping": cropping,
    "jpeg": jpeg,
    "precision": precision,
    "function": function,
    "few_people": few_people,
    "weights": weights,
}
GENERAL = ("function", "few_people")
