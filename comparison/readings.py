"""Bytes read otherwise than they were written: what becomes of values, and by which reading they make sense again."""
from __future__ import annotations

from typing import Callable, Dict, Tuple

import numpy as np

FLOAT_BYTES = 4
LARGEST, SMALLEST = 65504.0, 1e-20  # between them lie the values of heatmaps; bytes that mean something else do not


def reread(values: np.ndarray, axes: Tuple[int, ...]) -> np.ndarray:
    """The bytes of `values` written with permuted axes, read as if they were not."""
    return np.ascontiguousarray(values.transpose(axes)).reshape(values.shape)


def from_byte(values: np.ndarray, start: int) -> np.ndarray:
    """Each person's bytes from number `start` on; the first ones follow the last. (n, ...) float32."""
    raw = np.ascontiguousarray(values, np.float32).reshape(len(values), -1).view(np.uint8)
    return np.ascontiguousarray(np.roll(raw, -start, axis=1)).view(np.float32).reshape(values.shape)


def other_byte_order(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).byteswap()


# Whole values may be read from another place on and remain values; these readings make other numbers of all.
MISREAD: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "in the other byte order": other_byte_order,
    **{f"from byte {start} on": lambda values, start=start: from_byte(values, start) for start in (1, 2, 3)}}


def sensible_reading(values: np.ndarray) -> str:
    """How (n, ...) float32 values that are not finite must be read to be so, or nothing."""
    for words, read in MISREAD.items():
        sizes = np.abs(read(values).reshape(len(values), -1)[:, FLOAT_BYTES:-FLOAT_BYTES])  # ends were rolled around
        with np.errstate(invalid="ignore"):
            if ((sizes == 0) | (sizes > SMALLEST) & (sizes < LARGEST)).all() and sizes.any():
                return words
    return ""
