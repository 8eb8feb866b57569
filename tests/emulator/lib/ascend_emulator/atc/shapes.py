"""`--input_shape` and `--dynamic_batch_size` against the inputs of the model."""
from __future__ import annotations

import re
from typing import Dict, List, Optional, Tuple

from .errors import AtcError

LEAST_GEARS, MOST_GEARS, MOST_GEARS_950, LARGEST_GEAR = 2, 100, 256, 2048
Shape = List[Optional[int]]  # None where the model's dimension is symbolic


def parse_shapes(text: str) -> Dict[str, List[int]]:
    """"a:1,3,4;b:2" -> {a: [1, 3, 4], b: [2]}."""
    shapes: Dict[str, List[int]] = {}
    for part in text.split(";"):
        name, colon, sizes = part.rpartition(":")
        if not colon or not name or not sizes:
            raise AtcError("E10002", value=text, reason="a name, ':' and sizes are expected")
        if not re.fullmatch(r"-?\d+(,-?\d+)*", sizes):
            raise AtcError("E10002", value=text, reason=f"'{sizes}' are not sizes")
        shapes[name] = [int(size) for size in sizes.split(",")]
        if any(size < -1 or size == 0 for size in shapes[name]):
            raise AtcError("E10002", value=text, reason="a size must be positive, or -1 for a gear")
    return shapes


def parse_gears(text: Optional[str], layout: str = "") -> List[int]:
    """`layout` of the chip: 950 takes more."""
    most = MOST_GEARS_950 if layout == "950" else MOST_GEARS
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdigit() or not 1 <= int(part) <= LARGEST_GEAR:
            raise AtcError("E10001", value=part, flag="dynamic_batch_size",
                           reason=f"a gear is a number from 1 to {LARGEST_GEAR}")
    if len(parts) < LEAST_GEARS:
        raise AtcError("E10035", flag="dynamic_batch_size", count=len(parts), limit=LEAST_GEARS)
    if len(parts) > most:
        raise AtcError("E10036", flag="dynamic_batch_size", count=len(parts), limit=most)
    for part in parts:
        if parts.count(part) > 1:
            raise AtcError("E10039", value=part, flag="dynamic_batch_size")
    return sorted(int(part) for part in parts)


def resolve(model_shapes: Dict[str, Shape], text: Optional[str], gears: List[int]) -> Dict[str, Tuple[int, ...]]:
    """Name -> the shape to build, -1 for the batch with gears."""
    given = {} if text is None else parse_shapes(text)
    for name in given:
        if name not in model_shapes:
            raise AtcError("E10016", value=name, flag="input_shape")
    resolved = {}
    for name, shape in model_shapes.items():
        sizes = given.get(name, [-1 if size is None else size for size in shape])
        _check(name, sizes, shape, gears)
        resolved[name] = tuple(sizes)
    if gears and not any(sizes[:1] == (-1,) for sizes in resolved.values()):
        raise AtcError("E10031")
    return resolved


def _check(name: str, sizes: List[int], shape: Shape, gears: List[int]) -> None:
    if len(sizes) != len(shape):
        raise AtcError("E10049", value=name, came=len(sizes), expected=len(shape))
    for index, (size, own) in enumerate(zip(sizes, shape)):
        if size == -1 and not gears:
            raise AtcError("E10040")
        if size == -1 and index > 0:
            raise AtcError("E10018", value=size, index=index)
        if own is not None and size != own:
            raise AtcError("E10050", value=name, index=index, came=size, expected=own)
