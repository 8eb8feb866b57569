"""The predicted place of a box: a Kalman filter of constant velocity on its centre, aspect ratio and height.

The four numbers move independently of each other, so a filter is arithmetic on arrays of four and inverts no matrix.
Deviations are those of DeepSORT (Wojke et al., ICIP 2017), in shares of the height, and of its aspect ratio.
"""
from __future__ import annotations

import numpy as np

POSITION, VELOCITY = 1 / 20, 1 / 160  # standard deviations, of the height
ASPECT, ASPECT_VELOCITY, MEASURED_ASPECT = 1e-2, 1e-5, 1e-1


def centered(boxes_xywh: np.ndarray) -> np.ndarray:
    """(..., 4) left, top, width, height -> centre x, centre y, width / height, height."""
    x, y, width, height = np.moveaxis(np.asarray(boxes_xywh, np.float64), -1, 0)
    height = np.maximum(height, 1e-3)
    return np.stack([x + width / 2, y + height / 2, width / height, height], axis=-1)


class Motion:
    """One box: `place` (4,) and `speed` (4,) per frame, and the variances of both and their covariance."""

    def __init__(self, box_xywh: np.ndarray):
        self.place = centered(box_xywh)
        self.speed = np.zeros(4)
        self.place_var = (2 * self._deviations(POSITION, ASPECT)) ** 2
        self.speed_var = (10 * self._deviations(VELOCITY, ASPECT_VELOCITY)) ** 2
        self.both_var = np.zeros(4)

    def predict(self) -> None:
        """Predict the next frame."""
        self.place = self.place + self.speed
        self.place[2:] = np.maximum(self.place[2:], 1e-3)
        self.place_var = self.place_var + 2 * self.both_var + self.speed_var + self._deviations(POSITION, ASPECT) ** 2
        self.both_var = self.both_var + self.speed_var
        self.speed_var = self.speed_var + self._deviations(VELOCITY, ASPECT_VELOCITY) ** 2

    def update(self, box_xywh: np.ndarray) -> None:
        """Correct by a box seen in this frame."""
        wrong = centered(box_xywh) - self.place
        gain = self.place_var / self._total()
        speed_gain = self.both_var / self._total()
        self.place, self.speed = self.place + gain * wrong, self.speed + speed_gain * wrong
        self.speed_var = self.speed_var - speed_gain * self.both_var
        self.place_var, self.both_var = (1 - gain) * self.place_var, (1 - gain) * self.both_var

    def distances(self, boxes_xywh: np.ndarray) -> np.ndarray:
        """(N, 4) boxes -> (N,) squared Mahalanobis distances."""
        return ((centered(boxes_xywh) - self.place) ** 2 / self._total()).sum(axis=-1)

    @property
    def box_xywh(self) -> np.ndarray:
        x, y, aspect, height = self.place
        return np.array([x - aspect * height / 2, y - height / 2, aspect * height, height])

    def _total(self) -> np.ndarray:
        """Variance of what a detector says."""
        return self.place_var + self._deviations(POSITION, MEASURED_ASPECT) ** 2

    def _deviations(self, of_height: float, of_aspect: float) -> np.ndarray:
        height = of_height * self.place[3]
        return np.array([height, height, of_aspect, height])
