"""Train the demo's ReID network on drawn people.

    python3 -m demo.train_reid --output demo/reid_small.pth

Every batch holds people whom no other batch holds, so the network learns to tell people apart and not to know some.
None of them belongs to the test set, whose seed is demo.identities.TEST_SEED. Run again after an interruption, it
continues.
Axes: P people in a batch, V views of each, D features.
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
from torch.nn import functional
from torch.utils.data import Dataset

from contract.arguments import HelpFormatter
from demo.identities import render_person
from demo.training import Trainer, add_flags, save_whole
from networks.registry import build_network
from reid.crops import resize_pil
from reid.spec import ReidSpec, load_spec

TRAIN_SEED = 2_000_003
PEOPLE, VIEWS = 12, 3  # of a batch
MAX_RATE = 2e-3
TEMPERATURE = 0.1  # of the cosines


class Batches(Dataset):
    """Batch number -> (P * V, 3, H, W) float32 RGB crops from 0 to 255, the views of a person one after another."""

    def __init__(self, spec: ReidSpec, steps: int):
        self.spec, self.steps = spec, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Tuple[np.ndarray]:
        cv2.setNumThreads(1)
        seeds = [([TRAIN_SEED, step, person], [TRAIN_SEED, step, person, view]) for person in range(PEOPLE)
                 for view in range(VIEWS)]
        crops = [resize_pil(render_person(person, view, [*view, 1]), self.spec.input_size) for person, view in seeds]
        return (np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32),)


def contrast(features: Tensor) -> Tensor:
    """(P * V, D) -> how badly each crop finds the others of its person among all, by softmax of cosines (Khosla et al.,
    Supervised Contrastive Learning, NeurIPS 2020)."""
    features = functional.normalize(features)
    people = torch.arange(len(features)) // VIEWS
    itself = torch.eye(len(features), dtype=torch.bool)
    shares = (features @ features.T / TEMPERATURE).masked_fill(itself, float("-inf")).log_softmax(dim=1)
    same = (people[:, None] == people) & ~itself
    return -shares[same].mean()


def train(output: Path, spec: ReidSpec, steps: int, state: Path, workers: int) -> None:
    """Train for `steps` batches in all, and write a checkpoint of FastReID's form, without identities."""
    torch.manual_seed(TRAIN_SEED)
    network = build_network(spec).train()

    def write() -> None:
        weights = {**network.state_dict(), "heads.weight": network.heads.weight.data[:0].clone()}
        save_whole(output, {"model": weights})

    Trainer(network, steps, MAX_RATE, state).run(Batches(spec, steps), lambda crops: contrast(network(crops)), write,
                                                 workers)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m demo.train_reid", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    add_flags(parser, "demo/reid_small.pth", 900, "12 minutes at 1.3 a second on a busy core",
              "runs/demo_train_reid.pth", 1)
    parser.add_argument("--cfg", default="configs/demo_reid.yaml", help="network and input size")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    train(args.output, load_spec(args.cfg), args.steps, args.state, args.workers)


if __name__ == "__main__":
    sys.exit(exit_code(main))
