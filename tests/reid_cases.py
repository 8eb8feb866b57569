"""What the tests of re-identification share: the recipe of the golden weights, and small networks."""
from __future__ import annotations

import re
import zlib

import numpy as np


def damped(key: str, shape: tuple, last_norm: str = r"\.bn3\.weight$", final: str = r"^heads\.weight$") -> np.ndarray:
    """The golden data's tensor of a name: it depends on name and shape alone, and keeps activations in range."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    random = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        values = 0.75 + 0.5 * random.rand(*shape)
    elif key.endswith(("running_mean", ".bias")):
        values = 0.1 * random.randn(*shape)
    elif len(shape) == 1:
        values = (0.2 if re.search(last_norm, key) else 1) * (1 + 0.1 * random.randn(*shape))
    else:
        values = random.randn(*shape) * np.sqrt((1 if re.search(final, key) else 2) / np.prod(shape[1:]))
    return values.astype(np.float32)


def damped_network(network):
    """A non-local block adds a cube of its input, so it is damped more."""
    network.load_state_dict({key: value / 100 if key.endswith("W.1.weight") else value
                             for key, value in damped_weights(network).items()})
    return network.eval()


def damped_weights(network) -> dict:
    import torch

    return {key: torch.from_numpy(np.asarray(damped(key, tuple(value.shape))))
            for key, value in network.state_dict().items()}
