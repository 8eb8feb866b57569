"""What may be wrong when two results differ.

A cause is a module: `TITLE`, and `test(case)`, which holds it against the data and gives a Finding. CAUSES is in the
order in which they are tested: the first ones are cheap, and what one of them accounts for is not sought again.
"""
from __future__ import annotations

from comparison.causes import (
    batch_tail,
    bgr,
    few_people,
    file_order,
    flip_shift,
    layout,
    left_right,
    normalisation,
    offset,
    saturation,
    scaled,
    transposed,
    uint8,
    weights,
)

CAUSES = {"file_order": file_order, "batch_tail": batch_tail, "left_right": left_right, "flip_shift": flip_shift,
          "transposed": transposed, "saturation": saturation, "scaled": scaled, "layout": layout, "bgr": bgr,
          "normalisation": normalisation, "uint8": uint8, "offset": offset, "weights": weights,
          "few_people": few_people}
