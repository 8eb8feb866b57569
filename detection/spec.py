"""What a detector takes and gives."""
from __future__ import annotations

from contract.files import PathLike
from detection.blocks import Network
from detection.darknet import read_cfg


def load_spec(path: PathLike) -> Network:
    return read_cfg(path)
