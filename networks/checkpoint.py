"""Weights from a file into a network: all of them or none."""
from __future__ import annotations

import os
from typing import Any, Callable, Dict, Optional, Union

import torch
from torch import Tensor, nn

from contract.errors import UserError

PARALLEL_PREFIX = "module."  # nn.DataParallel puts it before every key
NAMED_KEYS = 3  # an error names this many keys of a kind; the rest is counted

PathLike = Union[str, "os.PathLike[str]"]


def load_checkpoint(network: nn.Module, path: PathLike,
                    rename: Optional[Callable[[Dict[str, Tensor]], Dict[str, Tensor]]] = None) -> None:
    """Copy a state_dict file into `network`, in place; `rename` turns the names of another release into ours.

    Taken: a plain state_dict (AlphaPose's format), one inside {"state_dict": ...}, and keys that all begin with
    "module.". Raises UserError naming keys that are missing, extra or of another shape; nothing is then loaded.
    """
    weights = read_state_dict(path)
    if rename:
        weights = rename(weights)
    complaint = _compare(weights, network.state_dict())
    if complaint:
        raise UserError(f"{path}: not this network's checkpoint: {complaint}. Do NUM_LAYERS, CONV_DIM and WIDTH of the "
                        "config belong to it?")
    network.load_state_dict(weights)


def read_state_dict(path: PathLike) -> Dict[str, Tensor]:
    """Names and tensors of a checkpoint on the CPU. Nothing but tensors is unpickled, so a file cannot run code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except OSError:
        raise
    except Exception:  # torch raises a dozen types; its text proposes to allow code, which we never do
        raise UserError(f"{path}: expected a state_dict saved by torch.save, but the file is cut short, of another "
                        "kind, or holds more than tensors") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not _is_state_dict(content):
        raise UserError(f"{path}: expected a state_dict (names and tensors), but it holds a {type(content).__name__}")
    if all(key.startswith(PARALLEL_PREFIX) for key in content):
        content = {key[len(PARALLEL_PREFIX):]: value for key, value in content.items()}
    return content


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, dict) and len(content) > 0 and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _compare(weights: Dict[str, Tensor], expected: Dict[str, Tensor]) -> str:
    """What keeps `weights` from fitting, in words; empty when they fit."""
    differences = {
        "missing": [key for key in expected if key not in weights],
        "not expected": [key for key in weights if key not in expected],
        "of another shape": [f"{key} {tuple(weights[key].shape)} (expected {tuple(value.shape)})"
                             for key, value in expected.items()
                             if key in weights and weights[key].shape != value.shape],
    }
    return "; ".join(f"{len(keys)} of {len(expected)} keys {kind}: " + ", ".join(keys[:NAMED_KEYS])
                     + (", ..." if len(keys) > NAMED_KEYS else "") for kind, keys in differences.items() if keys)
