"""Train a small network of configs/demo_*.yaml on rendered people.

    python3 -m demo.train --output demo/fastpose_small.pth
    python3 -m demo.train --cfg configs/demo_hourglass.yaml --output demo/hourglass_small.pth --steps 3000 \\
        --state runs/demo_train_hourglass.pth

Every batch is rendered when it is needed, from TRAIN_SEED and its number, so no picture is seen twice and none belongs
to the test set, whose seed is demo.render.TEST_SEED. Run again after an interruption, it continues.
Axes: M crops in a batch, K joints, h w of a heatmap.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import math
import sys
from pathlib import Path
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.utils.data import Dataset

from contract.arguments import HelpFormatter
from demo.scenes import render_scene
from demo.training import Trainer, add_flags, save_whole
from networks.registry import build_network
from pose.boxes import box_to_center_scale
from pose.crops import get_affine
from pose.skeleton import COCO17
from pose.spec import PoseSpec, load_spec

TRAIN_SEED = 1_000_003
SCENES_A_BATCH, CROPS_A_PERSON = 5, 2  # about 25 crops; a second one of the same person costs no rendering
SIGMA = 2  # of the target's Gaussian, heatmap pixels, as AlphaPose trains
MAX_RATE = 1.5e-3
HEAD_STD = 1e-3  # of the last convolution's first weights, as AlphaPose starts: heatmaps begin near zero
FOREGROUND = 10  # how much more errors weigh at a joint than far from it: a short run gets off the zero heatmap sooner
# Faster for FastPose; torch 2.13 ends the process in the backward pass of channels-last convolutions of 12 channels.
LAYOUTS = {"FastPose": torch.channels_last}
# Spread of the augmentations: box centre and size as shares of its size, degrees, contrast, brightness in 0..1.
SHIFT, SCALE, ROTATION, CONTRAST, BRIGHTNESS = 0.04, 0.12, 10, 0.12, 0.05


class Batches(Dataset):
    """Batch number -> (M, H, W, 3) uint8 RGB crops, (M, K, 2) float32 joints in crop pixels, (M, K) float32 weights."""

    def __init__(self, config: PoseSpec, steps: int):
        self.config, self.steps = config, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        cv2.setNumThreads(1)
        scenes = [render_scene([TRAIN_SEED, step, number]) for number in range(SCENES_A_BATCH)]
        rng = np.random.default_rng([TRAIN_SEED, step])
        crops = [random_crop(rng, scene.image, keypoints, box, self.config) for scene in scenes
                 for keypoints, box in zip(scene.keypoints, scene.bbox_xywh) for _ in range(CROPS_A_PERSON)]
        images, joints, weights = (np.stack(column) for column in zip(*crops))
        return images, joints, weights


def random_crop(rng: Generator, image: np.ndarray, keypoints: np.ndarray, bbox_xywh: np.ndarray,
                config: PoseSpec) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One person as inference crops it, but shifted, scaled, turned and mirrored at random."""
    height, width = config.input_size
    corners = np.concatenate([bbox_xywh[:2], bbox_xywh[:2] + bbox_xywh[2:]])
    (center,), (scale,) = box_to_center_scale(corners, width / height)
    center = (center + rng.normal(0, SHIFT, 2) * scale).astype(np.float32)
    scale = (scale * math.exp(rng.uniform(-SCALE, SCALE))).astype(np.float32)
    angle = rng.normal(0, ROTATION) if rng.random() < 0.5 else 0.0
    turn = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0), [0, 0, 1]])
    affine = (turn @ np.vstack([get_affine(center, scale, config.input_size), [0, 0, 1]]))[:2]
    crop = cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR)
    joints = keypoints[:, :2] @ affine[:, :2].T + affine[:, 2]
    weights = (keypoints[:, 2] > 0) & ((joints >= 0) & (joints < [width, height])).all(axis=1)
    if rng.random() < 0.5:
        crop, joints[:, 0] = np.ascontiguousarray(crop[:, ::-1]), width - 1 - joints[:, 0]
        joints, weights = joints[COCO17.mirrored], weights[COCO17.mirrored]
    return crop, joints.astype(np.float32), weights.astype(np.float32)


def crops_to_input(crops: Tensor, config: PoseSpec) -> Tensor:
    """(M, H, W, 3) uint8 -> (M, 3, H, W) normalised float32, each crop with its own contrast and brightness."""
    values = crops.permute(0, 3, 1, 2).float() / 255  # stays channels-last in memory
    gain, bias = (spread * torch.randn(len(crops), 1, 1, 1) for spread in (CONTRAST, BRIGHTNESS))
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (config.mean, config.std))
    return ((values * (1 + gain) + bias).clamp(0, 1) - mean) / std


def joints_to_heatmaps(joints: Tensor, config: PoseSpec) -> Tensor:
    """(M, K, 2) crop pixels -> (M, K, h, w), a Gaussian of height 1 about each joint.

    AlphaPose rounds the middle to a heatmap pixel; kept exact here, the decoded quarter pixels mean something.
    """
    height, width = config.heatmap_size
    x, y = (joints * (height / config.input_size[0])).unbind(-1)
    columns, rows = (torch.exp(-(torch.arange(count) - middle[..., None]) ** 2 / (2 * SIGMA ** 2))
                     for count, middle in ((width, x), (height, y)))
    return rows[..., :, None] * columns[..., None, :]


def heatmap_loss(heatmaps: Tensor, joints: Tensor, weights: Tensor, config: PoseSpec) -> Tensor:
    """Squared error a joint that is in the crop."""
    targets, weights = joints_to_heatmaps(joints, config), weights[:, :, None, None]
    errors = (heatmaps - targets) ** 2 * (1 + FOREGROUND * targets)
    return (errors * weights).sum() / weights.sum()


def train(output: Path, config: PoseSpec, steps: int, state: Path, workers: int) -> None:
    """Train for `steps` batches in all, and write a checkpoint: a plain state_dict in float32."""
    torch.manual_seed(TRAIN_SEED)
    layout = LAYOUTS.get(config.network, torch.contiguous_format)
    network = build_network(config).to(memory_format=layout).train()
    *_, last = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    nn.init.normal_(last.weight, std=HEAD_STD)

    def loss_of(crops: Tensor, joints: Tensor, weights: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):  # halves the time on CPUs that have it
            heatmaps = network(crops_to_input(crops, config).contiguous(memory_format=layout))
        return heatmap_loss(heatmaps.float(), joints, weights, config)

    Trainer(network, steps, MAX_RATE, state).run(
        Batches(config, steps), loss_of, lambda: save_whole(output, network.state_dict()), workers)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    add_flags(parser, "demo/fastpose_small.pth", 5200, "33 minutes at 2.6 a second on 2 cores",
              "runs/demo_train.pth", 2)
    parser.add_argument("--cfg", default="configs/demo_fastpose.yaml", help="network and input size")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    train(args.output, load_spec(args.cfg), args.steps, args.state, args.workers)


if __name__ == "__main__":
    sys.exit(exit_code(main))
