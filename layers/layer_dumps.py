"""Layers that were dumped on a card by its own tools: a folder of .npy files, each with a first axis of people.

A file is of the layer that its name names, in any of these ways; / . and other signs may have become _:

    TENSOR.npy                                    the tensor
    NODE.npy  NODE.INDEX.npy  NODE.INDEX.TIMESTAMP.npy          the node, and which of its outputs
    TYPE.NODE.TASK.STREAM.TIMESTAMP.output.INDEX.npy            as msaccucmp.py converts the dumps of an .om
"""
from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Set

import numpy as np

from contract.errors import UserError
from layers.graphs import Layer

_CONVERTED = re.compile(r"[A-Za-z0-9]+\.(.+?)(?:\.\d+){2,}\.output\.(\d+)")
_INDEXED = re.compile(r"(.+?)\.(\d+)(?:\.\d{10,})?")


def open_dumps(folder: Path, layers: List[Layer]) -> Dict[str, np.ndarray]:
    """Tensor name -> its values, (people, ...), read when they are used. Files that name no layer are left alone.

    Raises UserError for a name that may mean two layers, two files of one layer, and different numbers of people.
    """
    found: Dict[str, Path] = {}
    for path in sorted(folder.glob("*.npy")):
        named = layers_named(path.name[:-len(".npy")], layers)
        if len(named) > 1:
            raise UserError(f"{path}: could belong to {' or '.join(sorted(named))}. Rename it to one of these")
        for tensor in named:
            if tensor in found:
                raise UserError(f"{folder}: {found[tensor].name} and {path.name} both belong to {tensor}. Remove one")
            found[tensor] = path
    if not found:
        raise UserError(f"{folder}: no .npy file there is named after a layer, such as {layers[0].tensor} or "
                        f"{layers[0].name}")
    dumps = {tensor: _open(path) for tensor, path in found.items()}
    people = {len(values): tensor for tensor, values in dumps.items()}
    if len(people) > 1:
        raise UserError(f"{folder}: " + ", but ".join(f"{found[tensor].name} holds {count} people"
                                                      for count, tensor in sorted(people.items())[:2]))
    return dumps


def _open(path: Path) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as .npy: {error}") from None
    if values.ndim < 1 or values.dtype.kind != "f":
        raise UserError(f"{path}: holds {values.dtype} of shape {values.shape}, expected floats with an axis of people")
    return values


def layers_named(stem: str, layers: List[Layer]) -> Set[str]:
    """Tensors of the layers that a file's name may mean; an exact tensor name means nothing else."""
    if stem in {layer.tensor for layer in layers}:
        return {stem}
    readings = [(plain(stem), 0)]
    for pattern in (_CONVERTED, _INDEXED):
        match = pattern.fullmatch(stem)
        if match:
            readings.append((plain(match.group(1)), int(match.group(2))))
    named = {layer.tensor for layer in layers if plain(layer.tensor) == plain(stem)}
    return named | {layer.tensor for layer in layers for node in layer.nodes[-1:]
                    if node and (plain(node), layer.index) in readings}


def plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_")
