"""Weights that need no file: each tensor is a function of its name and shape, and keeps activations in range."""
from __future__ import annotations

import zlib
from typing import Any, Dict, Iterable, Tuple

import numpy as np


def tensor(name: str, shape: Tuple[int, ...]) -> np.ndarray:
    """float32. A convolution keeps the size of its input. A non-local block adds a cube of it, so it is damped."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.startswith("pixel_"):
        return rng.uniform(50, 130, shape).astype(np.float32)
    if name.endswith("running_var") or name.endswith("weight") and len(shape) == 1:
        return rng.uniform(0.7, 1.3, shape).astype(np.float32) / (100 if name.endswith("W.1.weight") else 1)
    scale = 0.1 if len(shape) == 1 else np.prod(shape[1:]) ** -0.5
    return rng.standard_normal(shape, np.float32) * np.float32(scale)


def listed(network: Any) -> np.ndarray:
    """Name and shape of every tensor, such as "conv1.weight 64x3x7x7", in order."""
    return np.array([f"{name} {'x'.join(map(str, value.shape))}" for name, value in network.state_dict().items()])


def weights(lines: Iterable[str]) -> Dict[str, Any]:
    """The state_dict of what `listed` gave."""
    import torch

    pairs = (line.split(" ") for line in lines)
    return {name: torch.from_numpy(np.asarray(tensor(name, tuple(map(int, shape.split("x"))) if shape else ())))
            for name, shape in pairs}


def fill(network: Any) -> Any:
    """The network with such weights, in eval mode."""
    network.load_state_dict(weights(listed(network)))
    return network.eval()
