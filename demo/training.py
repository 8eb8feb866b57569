"""A training that can be stopped at any moment and continues when it is run again: what the demo's networks share."""
from __future__ import annotations

import argparse
import io
import math
import time
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from contract.files import PathLike, make_folder, write_file
from contract.progress import Progress

SAVE_SECONDS = 120
BETAS = (0.9, 0.99)  # of AdamW: a short run must forget its first gradients
WARM_UP, WEIGHT_DECAY = 0.05, 0.01  # the former as a share of all steps


class Trainer:
    """A network, its optimiser and how far they have come; saved whole, so that a killed run continues."""

    def __init__(self, network: nn.Module, steps: int, max_rate: float, state: Path):
        self.network, self.steps, self.max_rate, self.state, self.step = network, steps, max_rate, state, 0
        self.optimizer = torch.optim.AdamW(network.parameters(), max_rate, BETAS, weight_decay=WEIGHT_DECAY)
        if state.exists():
            saved = torch.load(state, weights_only=True)
            self.step = saved["step"]
            network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])

    def save(self) -> None:
        make_folder(self.state.parent)
        save_whole(self.state, {"step": self.step, "network": self.network.state_dict(),
                                "optimizer": self.optimizer.state_dict()})

    def descend(self, loss: Tensor) -> None:
        self.optimizer.param_groups[0]["lr"] = self.max_rate * rate_at(self.step / self.steps)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1

    def run(self, batches: Dataset, loss_of: Callable[..., Tensor], write: Callable[[], None], workers: int) -> None:
        """Do the steps that are left; `loss_of` takes a batch's parts, `write` writes the network for its users."""
        loader = DataLoader(batches, batch_size=None, sampler=range(self.step, self.steps), num_workers=workers)
        saved, smooth = time.monotonic(), None
        with Progress(loader, desc="training", unit="batch", initial=self.step, total=self.steps) as bar:
            for batch in bar:
                loss = loss_of(*batch)
                self.descend(loss)
                smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
                bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    write()
                    saved = time.monotonic()
        self.save()
        write()


def rate_at(progress: float) -> float:
    """Learning rate as a share of the highest: a line up over the first WARM_UP, then half a cosine down to 0."""
    return min(progress / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * progress))


def save_whole(path: PathLike, value: object) -> None:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_file(path, buffer.getbuffer())


def add_flags(parser: argparse.ArgumentParser, output: str, steps: int, pace: str, state: str, workers: int) -> None:
    """The flags of every training program with its defaults; `pace` says how long the steps take."""
    parser.add_argument("--output", type=Path, default=output, help="file of the trained weights to write")
    parser.add_argument("--steps", type=int, default=steps, help=f"batches; {pace}")
    parser.add_argument("--state", type=Path, default=state, help="where an interrupted run continues")
    parser.add_argument("--workers", type=int, default=workers, help="processes that render")
