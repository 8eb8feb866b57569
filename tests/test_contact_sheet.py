"""The contact sheet of quantize.py --report: the photos' own colours, from float bins and from bytes."""
from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from contract.pixels import FLOAT32, UINT8
from pose.crops import Normalizer
from pose.spec import PoseSpec
from quantization.sheet import HEIGHT, contact_sheet

COLOURS = np.array([[250, 20, 30], [20, 240, 40], [10, 30, 230]], np.uint8)  # RGB
SIZE = (64, 48)


class Crops:
    """A source of rows, as quantize.py has them."""

    def __init__(self, rows: np.ndarray, spec: PoseSpec):
        self.all, self.spec, self.rows = rows, spec, [1] * len(rows)

    def __len__(self) -> int:
        return len(self.all)

    def read(self, numbers: range) -> np.ndarray:
        return self.all[list(numbers)]


@pytest.mark.parametrize("dtype", [FLOAT32, UINT8])
def test_crops_stand_in_order_in_their_own_colours(dtype):
    spec = dataclasses.replace(PoseSpec(input_size=SIZE, heatmap_size=(16, 12)), dtype=dtype)
    crops = np.broadcast_to(COLOURS[:, None, None, :], (len(COLOURS), *SIZE, 3))
    rows = crops if dtype == UINT8 else np.stack([Normalizer(spec.mean, spec.std)(crop) for crop in crops])
    content = contact_sheet(Crops(rows, spec), len(rows))
    sheet = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert sheet.shape == (HEIGHT, 3 * 72, 3)
    for number, colour in enumerate(COLOURS):
        middle = sheet[HEIGHT // 2, 72 * number + 36].astype(int)
        assert np.abs(middle - colour).max() <= 6  # of a JPEG
