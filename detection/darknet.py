"""Darknet's files: a .cfg says what the network is, a .weights holds its numbers, a .names how its classes are called.

    network = read_cfg("configs/yolov3-spp.cfg")
    weights = read_weights("yolov3-spp.weights", network)
"""
from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PathLike, read_text, write_file
from detection.blocks import (
    ACTIVATIONS,
    BOX_ATTRIBUTES,
    DARKNET_BN_EPS,
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

HEADER = np.array([0, 2, 0, 0, 0], "<i4")  # version 0.2.0 and the number of photos seen in training, 64 bits
OLD_HEADER_BYTES = 16  # of a version before 0.2, which counts the photos in 32 bits

# Options that change what a network computes and that are not built here, with the values that change nothing.
# What is not named anywhere in this file concerns training, or the drawing of boxes.
NEUTRAL = {"dilation": 1, "antialiasing": 0, "reverse": 0, "maxpool_depth": 0, "avgpool": 0, "binary": 0, "xnor": 0,
           "bin_output": 0, "flipped": 0, "extra_avg": 0, "coordconv": 0, "sway": 0, "rotate": 0, "stretch": 0,
           "stretch_sway": 0, "alpha": 1, "beta": 1, "scale": 1, "weights_type": "none",
           "dontload": 0, "dontloadscales": 0, "dontsave": 0, "numload": 0, "share_index": -1000000000}

# Options of networks after yolov3, which AlphaPose's reader has not.
LATER = {"groups": 1, "scale_x_y": 1, "new_coords": 0}

# What a cfg may ask for at most. Without these, one of 140 bytes takes hours, or all memory. In brackets: yolov3-spp.
MOST_BYTES = 1 << 20  # of the file (8 kB)
MOST_CHARACTERS = 4096  # of a line (92)
MOST_BLOCKS = 1000  # (114)
MOST_CHANNELS = 1 << 16  # and classes (1,024)
MOST_PIXELS = 1 << 13  # of the input's width and height, and of an anchor (608)
MOST_WINDOW = 32  # size, stride and padding of a block (13)
MOST_VALUES = 1 << 30  # of all blocks' outputs for one photo (1.2e8)
MOST_WORK = 1 << 40  # multiplications of convolutions and comparisons of pools for one photo (7.1e10)

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

    def integer(self, key: str, default: Optional[int] = None, least: int = 1, most: int = MOST_WINDOW) -> int:
        if default is not None and key not in self.options:
            return default
        value = self.numbers(key)
        if len(value) != 1 or value[0] != int(value[0]) or not least <= value[0] <= most:
            raise UserError(f"{self.where}: {key} is {self.options[key]!r}, expected an integer from {least} to {most}")
        return int(value[0])

    def flag(self, key: str) -> bool:
        return self.integer(key, default=0, least=0) > 0

    def strides(self) -> Tuple[int, int]:
        """Down and across. As in darknet, the stride of one direction goes before that of both."""
        both = self.integer("stride", default=1)
        return self.integer("stride_y", default=both), self.integer("stride_x", default=both)

    def activation(self, default: str) -> str:
        name = self.options.get("activation", default)
        if name not in ACTIVATIONS:
            raise UserError(f"{self.where}: activation is {name!r}, expected {' or '.join(ACTIVATIONS)}")
        return name

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
    """Parse a .cfg. Raises UserError for what is not a network of the sections in `READERS`, or is beyond MOST_..."""
    net, *sections = _read_sections(path)
    if net.kind not in ("net", "network"):
        raise UserError(f"{net.where}: a cfg begins with [net]")
    if net.integer("channels", default=3, most=MOST_CHANNELS) != 3:
        raise UserError(f"{net.where}: channels is {net.options['channels']}, expected 3: photos are RGB")
    network = Network(net.integer("width", most=MOST_PIXELS), net.integer("height", most=MOST_PIXELS), ())
    network = dataclasses.replace(network, blocks=tuple(_read_blocks(sections, network.input_shape)))
    _check_heads(network, path)
    network = dataclasses.replace(network, names=_read_names(Path(path), network.heads[0].classes))
    return network.of_person() if len(network.called_person) == 1 else network


def _read_names(cfg: Path, classes: int) -> Tuple[str, ...]:
    """The lines of NAME.names beside NAME.cfg, or of the only names file there that fits; none where there is none."""
    own = cfg.with_suffix(".names")
    files = [own] if own.exists() else sorted(cfg.parent.glob("*.names"))
    found = {file: tuple(map(str.strip, read_text(file, "names").strip().splitlines())) for file in files}
    if own in found and len(found[own]) != classes:
        raise UserError(f"{own}: {len(found[own])} names, but {cfg.name} has {classes} classes")
    fitting = [names for names in found.values() if len(names) == classes]
    return fitting[0] if len(fitting) == 1 else ()


def _read_blocks(sections: Sequence[Section], shape: Shape) -> List[Block]:
    """`shape` is that of the input."""
    blocks: List[Block] = []
    values = work = 0
    for section in sections:
        if section.kind not in READERS:
            raise UserError(f"{section.where}: unknown section, expected one of {', '.join(READERS)}")
        _refuse_unsupported(section)
        block = READERS[section.kind](section, blocks, shape)
        blocks.append(block)
        shape, values, work = block.shape, values + math.prod(block.shape), work + _work(block)
        if values > MOST_VALUES or work > MOST_WORK or len(blocks) > MOST_BLOCKS:
            raise UserError(f"{section.where}: up to here the network has {len(blocks)} sections, {values} values and "
                            f"{work} multiplications, expected at most {MOST_BLOCKS}, {MOST_VALUES} and {MOST_WORK}")
    return blocks if all(map(_is_alphaposes, sections)) else list(map(_as_darknet, blocks))


def _work(block: Block) -> int:
    """Multiplications of a convolution, comparisons of a pool."""
    if isinstance(block, Convolution):
        return math.prod(block.shape) * math.prod(block.layout()["kernel"][1:])
    return math.prod(block.shape) * block.size ** 2 if isinstance(block, MaxPool) else 0


def _is_alphaposes(section: Section) -> bool:
    """Whether AlphaPose's own reader takes the section too."""
    default = "logistic" if section.kind == "convolutional" else "linear"
    return section.kind != "dropout" and not _changed(section, LATER) and \
        section.options.get("activation", default) in ("leaky", "linear")


def _as_darknet(block: Block) -> Block:
    """Of a network that AlphaPose cannot run: what it does in its own way is left to darknet's."""
    if isinstance(block, MaxPool):
        return dataclasses.replace(block, zero_padded=False)
    return dataclasses.replace(block, eps=DARKNET_BN_EPS) if isinstance(block, Convolution) else block


def _read_sections(path: PathLike) -> List[Section]:
    if os.path.exists(path) and os.path.getsize(path) > MOST_BYTES:
        raise UserError(f"{path}: {os.path.getsize(path)} bytes, expected a darknet .cfg of at most {MOST_BYTES}")
    sections: List[Section] = []
    for number, line in enumerate(read_text(path, "darknet .cfg").splitlines(), start=1):
        if len(line) > MOST_CHARACTERS:
            raise UserError(f"{path}: line {number} has {len(line)} characters, expected at most {MOST_CHARACTERS}")
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
    for key in _changed(section, NEUTRAL):
        raise UserError(f"{section.where}: {key}={section.options[key]} changes the numbers and is not supported, "
                        f"expected {key}={NEUTRAL[key]} or no such line")


def _changed(section: Section, neutral: Mapping[str, object]) -> List[str]:
    """Keys of `neutral` that have another value in the section."""
    return [key for key, value in neutral.items() if key in section.options and section.options[key] != value
            and (isinstance(value, str) or section.numbers(key) != [value])]


def _convolution(section: Section, blocks: Sequence[Block], shape: Shape) -> Convolution:
    size, strides = section.integer("size"), section.strides()
    padding = size // 2 if section.flag("pad") else section.integer("padding", default=0, least=0)
    filters, groups = (section.integer(key, default, most=MOST_CHANNELS)
                       for key, default in (("filters", None), ("groups", 1)))
    if filters % groups or shape[0] % groups:
        raise UserError(f"{section.where}: groups is {groups}, expected a divisor of its {shape[0]} channels and "
                        f"{filters} filters")
    out = _window_shape(section, shape, size, strides, 2 * padding)
    return Convolution((filters, *out), shape[0], size, strides, padding,
                       section.flag("batch_normalize") or section.flag("cbn"), section.activation("logistic"), groups)


def _maxpool(section: Section, blocks: Sequence[Block], shape: Shape) -> MaxPool:
    strides = section.strides()
    size = section.integer("size", default=section.integer("stride", default=1))
    padding = section.integer("padding", default=size - 1, least=0)
    # An even size is yolov3-tiny's, which AlphaPose has no padding for: it goes darknet's way.
    return MaxPool((shape[0], *_window_shape(section, shape, size, strides, padding)), size, strides, padding,
                   zero_padded=strides == (1, 1) and size % 2 == 1)


def _window_shape(section: Section, shape: Shape, size: int, strides: Tuple[int, int],
                  padding: int) -> Tuple[int, int]:
    """(h, w) of what a sliding window gives; `padding` rows and columns in all."""
    height, width = ((extent + padding - size) // stride + 1 for extent, stride in zip(shape[1:], strides))
    if height < 1 or width < 1:
        raise UserError(f"{section.where}: size {size} is larger than its input, {shape[2]}x{shape[1]}")
    return height, width


def _upsample(section: Section, blocks: Sequence[Block], shape: Shape) -> Upsample:
    stride = section.integer("stride", default=2)
    return Upsample((shape[0], shape[1] * stride, shape[2] * stride), stride)


def _shortcut(section: Section, blocks: Sequence[Block], shape: Shape) -> Shortcut:
    sources = _sources(section, "from", blocks)
    if section.activation("linear") != "linear" or len(sources) != 1:
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
    groups = section.integer("groups", default=1, most=MOST_CHANNELS)
    group = section.integer("group_id", default=0, least=0, most=groups - 1)
    if any(shape[0] % groups for shape in shapes):
        raise UserError(f"{section.where}: groups is {groups}, expected a divisor of {[shape[0] for shape in shapes]} "
                        "channels")
    sizes = [shape[0] // groups for shape in shapes]
    parts = tuple((size * group, size * (group + 1)) for size in sizes) if groups > 1 else ()
    return Route((sum(sizes), *shapes[0][1:]), sources, parts)


def _dropout(section: Section, blocks: Sequence[Block], shape: Shape) -> Route:
    """It drops in training alone. The block before it, once more, keeps the numbers of those that follow."""
    if not blocks:
        raise UserError(f"{section.where}: expected a block before it")
    return Route(shape, (len(blocks) - 1,))


def _sources(section: Section, key: str, blocks: Sequence[Block]) -> Tuple[int, ...]:
    """Block numbers; negative ones count backwards from the section."""
    indexes = section.integers(key)
    if not all(-len(blocks) <= index < len(blocks) for index in indexes):
        raise UserError(f"{section.where}: {key} is {section.options[key]}, but {len(blocks)} blocks come before it")
    return tuple(index % len(blocks) for index in indexes)


def _yolo(section: Section, blocks: List[Block], shape: Shape) -> Yolo:
    numbers, classes = section.numbers("anchors"), section.integer("classes", most=MOST_CHANNELS)
    pairs = list(zip(numbers[::2], numbers[1::2]))
    mask = section.integers("mask") if "mask" in section.options else list(range(len(pairs)))
    if len(numbers) % 2 or not 0 < min(numbers) <= max(numbers) <= MOST_PIXELS or \
            not all(0 <= index < len(pairs) for index in mask):
        raise UserError(f"{section.where}: mask {mask} with {len(numbers)} numbers in anchors, expected positive pairs "
                        "w,h and a mask that counts them from 0")
    if shape[0] != len(mask) * (BOX_ATTRIBUTES + classes):
        raise UserError(f"{section.where}: {shape[0]} filters before it, expected {len(mask)} anchors * "
                        f"({BOX_ATTRIBUTES} + {classes} classes) = {len(mask) * (BOX_ATTRIBUTES + classes)}")
    scale = section.numbers("scale_x_y") if "scale_x_y" in section.options else [1.0]
    if len(scale) != 1 or scale[0] <= 0:
        raise UserError(f"{section.where}: scale_x_y is {section.options['scale_x_y']}, expected a number above 0")
    squared = section.flag("new_coords")
    if squared:
        _leave_logistic_to_the_host(section, blocks)
    return Yolo(shape, tuple(pairs[index] for index in mask), classes, scale[0], squared)


def _leave_logistic_to_the_host(section: Section, blocks: List[Block]) -> None:
    """With new_coords darknet takes the sigmoid in the convolution before the head, without them in the head. Here the
    host always does, so that raw numbers leave the device, which float16 keeps better."""
    last = blocks[-1] if blocks else None
    if not isinstance(last, Convolution) or last.activation != "logistic":
        raise UserError(f"{section.where}: new_coords=1 expects a [convolutional] of activation=logistic before it")
    blocks[-1] = dataclasses.replace(last, activation="linear")


READERS: Dict[str, Callable[[Section, List[Block], Shape], Block]] = {
    "convolutional": _convolution, "shortcut": _shortcut, "route": _route, "upsample": _upsample,
    "maxpool": _maxpool, "dropout": _dropout, "yolo": _yolo}


def _check_heads(network: Network, path: PathLike) -> None:
    for number, block in enumerate(network.blocks):
        after = network.blocks[number + 1:number + 2]
        if isinstance(block, Yolo) and (network.referred & {number, number - block.squared}
                                        or after and not isinstance(after[0], Route)):
            raise UserError(f"{path}: a block takes the output of [yolo], block {number}, which is for boxes alone")
    if len({head.classes for head in network.heads}) != 1:
        raise UserError(f"{path}: expected [yolo] sections, all of the same number of classes")
    for head in network.heads:
        if network.height % head.shape[1] or network.height // head.shape[1] * head.shape[2] != network.width:
            raise UserError(f"{path}: {network.width}x{network.height} does not divide into {head.shape[2]}x"
                            f"{head.shape[1]} cells: width and height are multiples of 32 for yolov3")


def weights_size(network: Network) -> int:
    """Bytes of the network's weights file, with the header that `write_weights` writes."""
    floats = sum(math.prod(shape) for block in network.convolutions for shape in block.layout().values())
    return HEADER.nbytes + 4 * floats


def read_weights(path: PathLike, network: Network) -> List[Arrays]:
    """The arrays of each convolution in order, float32. Raises UserError when the file is of another size."""
    try:
        size, version = os.path.getsize(path), np.fromfile(path, "<i4", 3)
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file") from None
    is_old = len(version) == 3 and version[0] * 10 + version[1] < 2  # as darknet itself tells the two apart
    header = OLD_HEADER_BYTES if is_old else HEADER.nbytes
    expected = weights_size(network) - HEADER.nbytes + header
    if size != expected:
        raise UserError(f"{path}: {size} bytes, expected {expected} for this cfg: the file is cut short, or belongs to "
                        "another cfg")
    numbers = np.fromfile(path, "<f4", offset=header)
    if not np.isfinite(numbers).all():
        raise UserError(f"{path}: {np.count_nonzero(~np.isfinite(numbers))} numbers are NaN or infinite. Is it "
                        "complete?")
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
