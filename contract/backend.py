"""What a backend is: it turns crops into heatmaps on one kind of device."""
from __future__ import annotations

from typing import Optional, Protocol, Tuple

import numpy as np


class Backend(Protocol):
    """A loaded model. Shapes are as the model file states them, batch first; a batch of None takes any number.

    `infer` takes contiguous or strided rows of `input_shape` and `input_dtype`, float32 or uint8, exactly the batch
    where there is one, and returns float32 rows of `output_shape` that are the caller's to keep. A room may have more:
    `slots`, the threads that may call `infer` at once and gain by it, and `times`, the milliseconds that each batch
    took on the device alone.
    """

    input_dtype: np.dtype
    input_shape: Tuple[Optional[int], ...]
    output_shape: Tuple[Optional[int], ...]

    def infer(self, rows: np.ndarray) -> np.ndarray: ...

    def describe(self) -> dict:
        """What decides its numbers: device, precision, versions."""

    def close(self) -> None: ...
