"""Weights from a file into a network: all of them or none."""
from __future__ import annotations

import contextlib
import os
import warnings
from typing import Any, Callable, Dict, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn

from contract.errors import UserError
from networks.pickled import NESTED, damaged_entry, refusal

PARALLEL_PREFIX = "module."  # nn.DataParallel puts it before every key
COUNTER, VARIANCE = "num_batches_tracked", "running_var"  # of batch norm
NAMED_KEYS = 3  # an error names this many keys of a kind; the rest is counted

PathLike = Union[str, "os.PathLike[str]"]


def load_checkpoint(network: nn.Module, path: PathLike,
                    rename: Optional[Callable[[Dict[str, Tensor]], Dict[str, Tensor]]] = None) -> None:
    """Copy a state_dict file into `network`, in place; `rename` turns the names of another release into ours.

    Raises UserError naming keys that are missing, extra or of another shape; nothing is then loaded. The counters of
    batch norm, which torch has since 0.4.1, may be missing: they count in training alone.
    """
    weights = read_state_dict(path)
    fill_network(network, rename(weights) if rename else weights, path)


def fill_network(network: nn.Module, weights: Dict[str, Tensor], path: PathLike) -> None:
    """As `load_checkpoint`, with weights that were already read from `path`."""
    expected = network.state_dict()
    counters = {key: value for key, value in expected.items() if key.endswith(COUNTER)}
    weights = {**counters, **_without_prefix(weights, expected)}
    complaint = _compare(weights, expected)
    if complaint:
        raise UserError(f"{path}: not this network's checkpoint: {complaint}. Does the MODEL section of "
                        "the config, such as WIDTH, belong to it?")
    network.load_state_dict(weights)


def _without_prefix(weights: Dict[str, Tensor], expected: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Names without what torch.compile ("_orig_mod.") and trainers ("model.", "net.") put before every one of them."""
    first = {key.partition(".")[0] for key in weights}
    while len(first) == 1 and not any(key.partition(".")[0] in first for key in expected):
        weights = {key.partition(".")[2]: value for key, value in weights.items()}
        first = {key.partition(".")[0] for key in weights}
    return weights


def read_state_dict(path: PathLike) -> Dict[str, Tensor]:
    """Names and tensors of a checkpoint, on the CPU, finite and dense.

    Taken: a plain state_dict (AlphaPose's format), one inside a dictionary of other things, whatever its key is, and
    keys that all begin with "module.". Nothing but tensors and plain values is unpickled, so a file cannot run code.
    Raises UserError that says what the file holds.
    """
    try:
        with _numpy_scalars(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a TorchScript archive is named below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except OSError:
        raise
    except Exception:  # torch raises a dozen types; its text proposes to allow code, which we never do
        content = None
    weights = _unwrap(content)
    if weights is None:
        raise UserError(f"{path}: expected a state_dict (names and tensors), but {refusal(path)}")
    entry = damaged_entry(path)
    if entry:
        raise UserError(f"{path}: damaged, the checksum of its part {entry} differs. Copy or download it again")
    while all(key.startswith(PARALLEL_PREFIX) for key in weights):
        weights = {key[len(PARALLEL_PREFIX):]: value for key, value in weights.items()}
    for key, value in weights.items():
        _check_tensor(path, key, value)
    return weights


def _numpy_scalars() -> Any:
    """Lets torch.load take numbers of numpy, such as the best AP so far. Before torch 2.5 it takes none."""
    if not hasattr(torch.serialization, "safe_globals"):
        return contextlib.nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(kind)) for kind in "efdbhilqBHILQ?"}
    return torch.serialization.safe_globals([
        (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"),  # of numpy 1 and 2
        np.dtype, *kinds])


def _unwrap(content: Any, depth: int = NESTED) -> Optional[Dict[str, Tensor]]:
    """The state_dict in `content`: the one under "state_dict", or the only one. None where it is not clear."""
    if not isinstance(content, dict) or not content or depth < 0:
        return None
    if all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        return content
    inner = {key: _unwrap(value, depth - 1) for key, value in content.items() if isinstance(key, str)}
    inner = {key: weights for key, weights in inner.items() if weights}
    return inner.get("state_dict") or (next(iter(inner.values())) if len(inner) == 1 else None)


def _check_tensor(path: PathLike, key: str, value: Tensor) -> None:
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        kind = "quantized" if value.is_quantized else "without numbers" if value.is_meta else "sparse"
        raise UserError(f"{path}: {key} is {kind}, expected a dense tensor. Save it as one (to_dense, dequantize)")
    if not value.is_floating_point():
        return
    numbers = value.float()  # which networks hold; of kinds of 8 bits torch has no other arithmetic
    count = int((~torch.isfinite(numbers)).sum())
    if count:
        raise UserError(f"{path}: {key} holds NaN or infinite values, {count} of {value.numel()}. Did the training "
                        "diverge? Give an earlier checkpoint")
    if key.endswith(VARIANCE) and (numbers < 0).any():
        raise UserError(f"{path}: {key} holds negative variances. Is it a checkpoint, or the difference of two?")


def _compare(weights: Dict[str, Tensor], expected: Dict[str, Tensor]) -> str:
    """What keeps `weights` from fitting, in words; empty when they fit."""
    differences = {
        "missing": [key for key in expected if key not in weights],
        "not expected": [key for key in weights if key not in expected],
        "of another shape": [f"{key} {tuple(weights[key].shape)} (expected {tuple(value.shape)})"
                             for key, value in expected.items()
                             if key in weights and weights[key].shape != value.shape],
        "of another kind": [f"{key} {weights[key].dtype} (expected {value.dtype})" for key, value in expected.items()
                            if key in weights and value.is_floating_point() and not weights[key].is_floating_point()],
    }
    return "; ".join(f"{len(keys)} of {len(expected)} keys {kind}: " + ", ".join(keys[:NAMED_KEYS])
                     + (", ..." if len(keys) > NAMED_KEYS else "") for kind, keys in differences.items() if keys)
