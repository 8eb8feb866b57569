"""Train the small person detector of configs/demo_yolov3_tiny.cfg on rendered people.

    python3 -m demo.train_detector --output demo/yolov3_demo.weights

Every batch is rendered when it is needed, from TRAIN_SEED and its number, so no picture is seen twice and none belongs
to the test set, whose seed is demo.render.TEST_SEED. Run again after an interruption, it continues.
Axes: M pictures in a batch, P people on them, R rows of the network, one a cell and anchor.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset

from contract.arguments import HelpFormatter
from demo.scenes import MAX_PEOPLE, render_scene
from demo.training import Trainer, add_flags
from detection.blocks import Network
from detection.darknet import read_cfg, write_weights
from detection.decoding import anchor_rows
from detection.letterbox import Size, letterbox
from networks.darknet import Darknet, get_weights

TRAIN_SEED = 1_000_033
SCENES_A_BATCH = 8  # and each of them mirrored, which costs no rendering
MAX_RATE = 3e-3
IGNORED_OVERLAP = 0.5  # rows that find somebody this well are not taught otherwise, though another row is responsible


class Batches(Dataset):
    """Batch number -> (M, height, width, 3) uint8 RGB letterboxes and (M, MAX_PEOPLE, 4) float32 centre x, y, width,
    height in their pixels, zeros where there is nobody more."""

    def __init__(self, network: Network, steps: int):
        self.size, self.steps = (network.width, network.height), steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Tuple[np.ndarray, np.ndarray]:
        cv2.setNumThreads(1)
        letterboxed, corners = [], []
        for number in range(SCENES_A_BATCH):
            scene = render_scene([TRAIN_SEED, step, number])
            letterboxed.append(letterbox(scene.image, self.size))
            corners.append(np.zeros((MAX_PEOPLE, 4), np.float32))
            corners[-1][:len(scene.bbox_xywh)] = boxes_to_letterbox(scene.bbox_xywh, scene.image.shape[1::-1],
                                                                     self.size)
        images, boxes = np.stack(letterboxed), np.stack(corners)
        mirrored = boxes * [-1, 1, 1, 1] + (boxes[..., 2:3] > 0) * [self.size[0], 0, 0, 0]
        return np.concatenate([images, images[:, :, ::-1]]), np.concatenate([boxes, mirrored]).astype(np.float32)


def boxes_to_letterbox(bbox_xywh: np.ndarray, photograph: Size, size: Size) -> np.ndarray:
    """(n, 4) left, top, width, height in a photo -> centre x, y, width, height in its letterbox."""
    inner, outer = np.array(size), np.array(photograph)
    scale = (inner / outer).min()
    centers = bbox_xywh[:, :2] + bbox_xywh[:, 2:] / 2
    return np.concatenate([centers * scale + (inner - scale * outer) / 2, bbox_xywh[:, 2:] * scale], axis=1)


def detection_loss(raw: Tensor, boxes: Tensor, anchors: Tensor) -> Tensor:
    """YOLOv3's loss a person: box and class of the row that is responsible for the person, objectness of all rows.

    raw (M, R, 6) of a network of one class, boxes (M, MAX_PEOPLE, 4), anchors (R, 7) of `decoding.anchor_rows`.
    """
    picture, number = torch.nonzero(boxes[..., 2], as_tuple=True)  # (P,) each
    people = boxes[picture, number]
    row, in_cell = responsible_rows(people, anchors)
    chosen = raw[picture, row]
    position = binary_cross_entropy_with_logits(chosen[:, :2], in_cell, reduction="none")
    size = (chosen[:, 2:4] - (people[:, 2:] / anchors[row, 3:5]).log()) ** 2 / 2
    letterbox_sides = anchors[-1, 2] * (anchors[-1, :2] + 1)
    weight = 2 - (people[:, 2:] / letterbox_sides).prod(dim=1)  # small people count more, as in darknet
    person = binary_cross_entropy_with_logits(chosen[:, 5], torch.ones(len(row)), reduction="sum")
    is_responsible = torch.zeros(raw.shape[:2])
    is_responsible[picture, row] = 1
    counts = (is_responsible == 1) | ~finds_somebody(raw.detach(), picture, people, anchors)
    objectness = binary_cross_entropy_with_logits(raw[..., 4], is_responsible, counts.float(), reduction="sum")
    return ((position + size).sum(dim=1) @ weight + person + objectness) / max(len(row), 1)


def responsible_rows(people: Tensor, anchors: Tensor) -> Tuple[Tensor, Tensor]:
    """(P, 4) boxes -> (P,) rows, and (P, 2) where in the row's cell, from 0 to 1, the middle of the person is.

    Of the rows of the cells that hold the middle, it is the one whose anchor is most like the person in shape.
    """
    in_cells = people[:, None, :2] / anchors[:, 2:3] - anchors[:, :2]  # (P, R, 2)
    holds = ((in_cells >= 0) & (in_cells < 1)).all(dim=2)
    sizes, shapes = people[:, None, 2:], anchors[:, 3:5]
    row = (holds * overlap(torch.minimum(sizes, shapes), sizes, shapes)).argmax(dim=1)
    return row, in_cells[range(len(row)), row]


def finds_somebody(raw: Tensor, picture: Tensor, people: Tensor, anchors: Tensor) -> Tensor:
    """(M, R) whether a row's box overlaps a person of its picture by more than IGNORED_OVERLAP."""
    centers = ((raw[..., :2].sigmoid() + anchors[:, :2]) * anchors[:, 2:3])[picture]  # (P, R, 2)
    sizes = (raw[..., 2:4].exp() * anchors[:, 3:5])[picture]
    middles, spans = people[:, None, :2], people[:, None, 2:]
    low, high = torch.maximum(centers - sizes / 2, middles - spans / 2), torch.minimum(centers + sizes / 2,
                                                                                        middles + spans / 2)
    is_near = overlap((high - low).clamp(min=0), sizes, spans) > IGNORED_OVERLAP
    return torch.zeros(raw.shape[:2]).index_add(0, picture, is_near.float()) > 0


def overlap(common: Tensor, sizes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 2) of these widths and heights, and those of what they have in common."""
    areas = [sides.prod(dim=-1) for sides in (common, sizes, others)]
    return areas[0] / (areas[1] + areas[2] - areas[0])


def train(output: Path, cfg: Path, steps: int, state: Path, workers: int) -> None:
    """Train for `steps` batches in all, and write darknet's .weights of `cfg`."""
    torch.manual_seed(TRAIN_SEED)
    network = read_cfg(cfg)
    darknet, anchors = Darknet(network), torch.from_numpy(anchor_rows(network))
    darknet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out

    def loss_of(images: Tensor, boxes: Tensor) -> Tensor:
        values = images.permute(0, 3, 1, 2).float() / 255  # stays channels-last in memory
        with torch.autocast("cpu", torch.bfloat16):  # halves the time on CPUs that have it
            raw = darknet(values)
        return detection_loss(raw.float(), boxes, anchors)

    Trainer(darknet, steps, MAX_RATE, state).run(
        Batches(network, steps), loss_of, lambda: write_weights(output, network, get_weights(darknet)), workers)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    add_flags(parser, "demo/yolov3_demo.weights", 4000, "each takes 0.3 s of a core",
              "runs/demo_train_detector.pth", 2)
    parser.add_argument("--yolo_cfg", type=Path, default="configs/demo_yolov3_tiny.cfg", help="network to train")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    train(args.output, args.yolo_cfg, args.steps, args.state, args.workers)


if __name__ == "__main__":
    sys.exit(exit_code(main))
