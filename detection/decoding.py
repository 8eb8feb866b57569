"""From a network's raw rows to the boxes of people, in float32 for every device.

n rows or boxes. A row is tx, ty, tw, th, objectness, person and, with more than one class, the best other class.
"""
from __future__ import annotations

import dataclasses

import numpy as np

from contract.errors import UserError
from detection.blocks import Network

CROWD = 100  # more people than this in a photo, and the selection is done again with
CROWD_STEP = 0.05  # a threshold lower by this (AlphaPose's dynamic_write_results)


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """AlphaPose's, of its detector/yolo_cfg.py; the 0.05 in its YAML files is never read."""
    confidence: float = 0.1
    nms: float = 0.6

    def __post_init__(self) -> None:
        if not (0 <= self.confidence < 1 and 0 < self.nms <= 1):
            raise UserError(f"confidence {self.confidence} and nms {self.nms}: expected 0 <= confidence < 1 and "
                            "0 < nms <= 1")


def anchor_rows(network: Network) -> np.ndarray:
    """(rows, 7) float32, in the order of the rows: column, row and stride of the cell, width and height of the anchor,
    and the head's `scale` and `squared`.

    Heads as in the cfg; in a head row by row, column by column, anchor by anchor.
    """
    parts = []
    for head in network.heads:
        anchors, (_, height, width) = np.array(head.anchors), head.shape
        row, column, anchor = np.indices((height, width, len(anchors))).reshape(3, -1)
        stride, ones = np.full_like(row, network.height // height), np.ones(len(row))
        parts.append(np.column_stack([column, row, stride, anchors[anchor], head.scale * ones, head.squared * ones]))
    return np.concatenate(parts).astype(np.float32)


def find_people(raw: np.ndarray, anchors: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """(rows, columns) network output of one photo -> (n, 5) x1 y1 x2 y2 score in the letterbox, best first.

    anchors: (rows, 7) of `anchor_rows`.
    """
    likely = sigmoid(raw[:, 4]) > np.float32(thresholds.confidence)  # few are: decode only these
    return select_people(decode(raw[likely], anchors[likely]), thresholds)


def decode(raw: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(n, 6 or 7) float32 raw rows of the network and (n, 7) rows of `anchor_rows` -> float32 rows of the same columns:
    centre x, y, width, height in letterbox pixels, then probabilities from 0 to 1."""
    rows = sigmoid(raw)
    column_row, stride, sizes, scale, squared = np.split(anchors, [2, 3, 5, 6], axis=1)
    rows[:, :2] = (rows[:, :2] * scale - (scale - 1) / 2 + column_row) * stride
    with np.errstate(over="ignore"):  # an untrained network's size may be infinite; it is clipped to the photo
        rows[:, 2:4] = np.where(squared, 4 * rows[:, 2:4] ** 2, np.exp(raw[:, 2:4])) * sizes
    return rows


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-values)), (...) of any shape and float type, from 0 to 1."""
    with np.errstate(over="ignore"):  # exp of more than 88 is infinite in float32, and 1 / inf is the 0 it should be
        return 1 / (1 + np.exp(-values))


def select_people(rows: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """(rows, 6 or more) decoded rows -> (n, 5) x1 y1 x2 y2 score of the people, best first.

    A person is a row whose objectness is above the confidence and whose best class is the person: the first class, so
    it wins a tie. The class probability counts no further. The crowd rule is this photo's own: what is found
    does not depend on the batch.
    """
    is_person = (rows[:, 4] > np.float32(thresholds.confidence)) & (rows[:, 5] >= rows[:, 6:].max(axis=1, initial=0))
    rows = rows[is_person]
    centers, halves = rows[:, :2], rows[:, 2:4] / np.float32(2)
    people = np.concatenate([centers - halves, centers + halves, rows[:, 4:5]], axis=1)
    kept = nms(people, thresholds.nms)
    if len(kept) > CROWD:
        kept = nms(people, thresholds.nms - CROWD_STEP)
    return people[kept]


def nms(people: np.ndarray, threshold: float) -> np.ndarray:
    """Indexes of the (n, 5) float32 boxes that stay, best first; equal scores in the order of the rows.

    Greedy: a box goes when its IoU with a better one that stays is at least `threshold`. Sides are one pixel longer
    than the difference of the corners, as in the original's kernel.
    """
    order = np.argsort(-people[:, 4], kind="stable")
    x1, y1, x2, y2 = people[order, :4].T.copy()
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    stays = np.ones(len(order), bool)
    with np.errstate(invalid="ignore"):  # infinite boxes overlap by NaN, which is not at least the threshold
        for best in range(len(order)):
            if stays[best]:
                rest = slice(best + 1, None)  # those that went already are cheaper to do again than to leave out
                width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + 1
                height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + 1
                common = np.maximum(width, 0) * np.maximum(height, 0)
                stays[rest] &= ~(common / (areas[best] + areas[rest] - common) >= np.float32(threshold))
    return order[stays]
