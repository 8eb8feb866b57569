"""Darknet's two files: a .cfg says what the network is, a .weights holds its numbers.

    network = read_cfg("configs/yolov3-spp.cfg")
    weights = read_weights("yolov3-spp.weights", network)
"""
from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PathLike, write_file
from detection.blocks import (
    BOX_ATTRIBUTES,
    Block,
    Convolution,
    MaxPool,
    Network,
    Route,
    Shape,
    Shortcut,
    Upsample,
    Yolo,
)

HEADER = np.array([0, 2, 0, 0, 0], "<i4")  # version 0.2.0 and the number of photographs seen in training, 64 bits

# Options that change what a network computes and that are not built here, with the values that change nothing.
# What is not named anywhere in this file concerns training, or the drawing of boxes.
NEUTRAL = {"groups": 1, "group_id": 0, "dilation": 1, "scale_x_y": 1, "new_coords": 0, "antialiasing": 0, "reverse": 0,
           "maxpool_depth": 0, "binary": 0, "xnor": 0, "flipped": 0, "extra_avg": 0}
ACTIVATIONS = {"leaky": True, "linear": False}

Arrays = Dict[str, np.ndarray]  # of one convolution, by the names of its `layout()`


@dataclasses.dataclass(frozen=True)
class Section:
    kind: str
    where: str  # file, name and line, as errors show it
    options: Dict[str, str]

    def text(self, key: str) -> str:
        if key not in self.options:
            raise UserError(f"{self.where}: {key} is missing")
        return self.options[key]

    def integer(self, key: str, default: Optional[int] = None, least: int = 1) -> int:
        if default is not None and key not in self.options:
            return default
        value = self.numbers(key)
        if len(value) != 1 or value[0] != int(value[0]) or value[0] < least:
            raise UserError(f"{self.where}: {key} is {self.options[key]!r}, expected an integer of at least {least}")
        return int(value[0])

    def integers(self, key: str) -> List[int]:
        values = self.numbers(key)
        if any(value != int(value) for value in values):
            raise UserError(f"{self.where}: {key} is {self.options[key]!r}, expected integers")
        return [int(value) for value in values]

    def numbers(self, key: str) -> List[float]:
        text = self.text(key)
        try:
            values = [float(part) for part in text.split(",") if part.strip()]
        except ValueError:
            values = []
        if not values or not all(map(math.isfinite, values)):
            raise UserError(f"{self.where}: {key} is {text!r}, expected numbers between commas")
        return values


def read_cfg(path: PathLike) -> Network:
    """Parse a .cfg. Raises UserError for what is not a network of the sections in `READERS`."""
    net, *sections = _read_sections(path)
    if net.kind not in ("net", "network"):
        raise UserError(f"{net.where}: a cfg begins with [net]")
    if net.integer("channels", default=3) != 3:
        raise UserError(f"{net.where}: channels is {net.options['channels']}, expected 3: photographs are RGB")
    network = Network(net.integer("width"), net.integer("height"), ())
    blocks: List[Block] = []
    for section in sections:
        if section.kind not in READERS:
            raise UserError(f"{section.where}: unknown section, expected one of {', '.join(READERS)}")
        _refuse_unsupported(section)
        shapes = [block.shape for block in blocks] or [(3, network.height, network.width)]
        blocks.append(READERS[section.kind](section, blocks, shapes[-1]))
    network = dataclasses.replace(network, blocks=tuple(blocks))
    _check_heads(network, path)
    return network


def _read_sections(path: PathLike) -> List[Section]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such cfg file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a darknet .cfg (text), but it is not text") from None
    sections: List[Section] = []
    for number, line in enumerate(lines, start=1):
        line = line.split("#")[0].split(";")[0].strip()
        key, equals, value = (part.strip() for part in line.partition("="))
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1], f"{path}: {line} in line {number}", {}))
        elif equals and sections:
            sections[-1].options[key] = value
        elif line:
            raise UserError(f"{path}: line {number} is {line!r}, expected [section] or key=value inside a section")
    if not sections:
        raise UserError(f"{path}: no sections; a darknet .cfg begins with [net]")
    return sections


def _refuse_unsupported(section: Section) -> None:
    for key in NEUTRAL.keys() & section.options.keys():
        if section.numbers(key) != [NEUTRAL[key]]:
            raise UserError(f"{section.where}: {key}={section.options[key]} is not supported; only yolov3's blocks are")


def _activation(section: Section, default: str) -> bool:
    """Whether it is leaky."""
    name = section.options.get("activation", default)
    if name not in ACTIVATIONS:
        raise UserError(f"{section.where}: activation is {name!r}, expected {' or '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _convolution(section: Section, blocks: Sequence[Block], shape: Shape) -> Convolution:
    size, stride = section.integer("size"), section.integer("stride", default=1)
    padding = size // 2 if section.integer("pad", default=0, least=0) else section.integer("padding", 0, least=0)
    out = _window_shape(section, shape, size, stride, 2 * padding)
    return Convolution((section.integer("filters"), *out), shape[0], size, stride, padding,
                       section.integer("batch_normalize", default=0, least=0) > 0, _activation(section, "logistic"))


def _maxpool(section: Section, blocks: Sequence[Block], shape: Shape) -> MaxPool:
    stride = section.integer("stride", default=1)
    size = section.integer("size", default=stride)
    padding = section.integer("padding", default=size - 1, least=0)
    return MaxPool((shape[0], *_window_shape(section, shape, size, stride, padding)), size, stride, padding)


def _window_shape(section: Section, shape: Shape, size: int, stride: int, padding: int) -> Tuple[int, int]:
    """(h, w) of what a sliding window gives; `padding` rows and columns in all."""
    height, width = ((extent + padding - size) // stride + 1 for extent in shape[1:])
    if height < 1 or width < 1:
        raise UserError(f"{section.where}: size {size} is larger than its input, {shape[2]}x{shape[1]}")
    return height, width


def _upsample(section: Section, blocks: Sequence[Block], shape: Shape) -> Upsample:
    stride = section.integer("stride", default=2)
    return Upsample((shape[0], shape[1] * stride, shape[2] * stride), stride)


def _shortcut(section: Section, blocks: Sequence[Block], shape: Shape) -> Shortcut:
    sources = _sources(section, "from", blocks)
    if _activation(section, "linear") or len(sources) != 1:
        raise UserError(f"{section.where}: expected one block in 'from' and activation=linear")
    if blocks[sources[0]].shape != shape:
        raise UserError(f"{section.where}: adds {shape} to block {sources[0]}, which is {blocks[sources[0]].shape}")
    return Shortcut(shape, sources[0])


def _route(section: Section, blocks: Sequence[Block], shape: Shape) -> Route:
    sources = _sources(section, "layers", blocks)
    shapes = [blocks[source].shape for source in sources]
    if len({shape[1:] for shape in shapes}) != 1:
        raise UserError(f"{section.where}: joins blocks of different height or width: {shapes}. Are those of "
                        "[net] multiples of 32?")
    return Route((sum(shape[0] for shape in shapes), *shapes[0][1:]), sources)


def _sources(section: Section, key: str, blocks: Sequence[Block]) -> Tuple[int, ...]:
    """Block numbers; negative ones count backwards from the section."""
    indexes = section.integers(key)
    if not all(-len(blocks) <= index < len(blocks) for index in indexes):
        raise UserError(f"{section.where}: {key} is {section.options[key]}, but {len(blocks)} blocks come before it")
    return tuple(index % len(blocks) for index in indexes)


def _yolo(section: Section, blocks: Sequence[Block], shape: Shape) -> Yolo:
    numbers, classes = section.numbers("anchors"), section.integer("classes")
    pairs = list(zip(numbers[::2], numbers[1::2]))
    mask = section.integers("mask") if "mask" in section.options else list(range(len(pairs)))
    if len(numbers) % 2 or min(numbers) <= 0 or not all(0 <= index < len(pairs) for index in mask):
        raise UserError(f"{section.where}: mask {mask} with {len(numbers)} numbers in anchors, expected positive pairs "
                        "w,h and a mask that counts them from 0")
    if shape[0] != len(mask) * (BOX_ATTRIBUTES + classes):
        raise UserError(f"{section.where}: {shape[0]} filters before it, expected {len(mask)} anchors * "
                        f"({BOX_ATTRIBUTES} + {classes} classes) = {len(mask) * (BOX_ATTRIBUTES + classes)}")
    return Yolo(shape, tuple(pairs[index] for index in mask), classes)


READERS: Dict[str, Callable[[Section, Sequence[Block], Shape], Block]] = {
    "convolutional": _convolution, "shortcut": _shortcut, "route": _route, "upsample": _upsample,
    "maxpool": _maxpool, "yolo": _yolo}


def _check_heads(network: Network, path: PathLike) -> None:
    if len({head.classes for head in network.heads}) != 1:
        raise UserError(f"{path}: expected [yolo] sections, all of the same number of classes")
    for head in network.heads:
        if network.height % head.shape[1] or network.height // head.shape[1] * head.shape[2] != network.width:
            raise UserError(f"{path}: {network.width}x{network.height} does not divide into {head.shape[2]}x"
                            f"{head.shape[1]} cells: width and height are multiples of 32 for yolov3")


def weights_size(network: Network) -> int:
    """Bytes of the network's weights file."""
    floats = sum(math.prod(shape) for block in network.convolutions for shape in block.layout().values())
    return HEADER.nbytes + 4 * floats


def read_weights(path: PathLike, network: Network) -> List[Arrays]:
    """The arrays of each convolution in order, float32. Raises UserError when the file is of another size."""
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file") from None
    if size != weights_size(network):
        raise UserError(f"{path}: {size} bytes, expected {weights_size(network)} for this cfg: the file is cut short, "
                        "or belongs to another cfg")
    numbers = np.fromfile(path, "<f4", offset=HEADER.nbytes)
    if not np.isfinite(numbers).all():
        raise UserError(f"{path}: {np.count_nonzero(~np.isfinite(numbers))} numbers are NaN or infinite. Is it whole?")
    weights, start = [], 0
    for block in network.convolutions:
        arrays = {}
        for name, shape in block.layout().items():
            arrays[name] = numbers[start:start + math.prod(shape)].reshape(shape)
            start += arrays[name].size
        weights.append(arrays)
    return weights


def write_weights(path: PathLike, network: Network, weights: Sequence[Arrays]) -> None:
    """The inverse of `read_weights`."""
    parts = [HEADER.tobytes()]
    for block, arrays in zip(network.convolutions, weights):
        for name, shape in block.layout().items():
            if arrays[name].shape != shape:
                raise ValueError(f"{name} of a convolution is {arrays[name].shape}, expected {shape}")
            parts.append(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    write_file(path, b"".join(parts))
