"""ncnn's two files: .param, the layers as text, and .bin, their weights one after another.

A .bin has no index: where a weight lies follows from the layers before it. Weights of convolutions and inner products
begin with four bytes that say how they are stored; biases and scales are plain float32.
"""
from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

from contract.errors import UserError
from contract.files import PathLike

MAGIC = "7767517"
INT8_TERM = "8"  # the parameter that makes a layer int8
# What each layer that int8 can do keeps under which parameter: length of the weights, whether it has a bias, and how
# many scales its weights have.
QUANTIZABLE = {"Convolution": ("6", "5", "0"), "ConvolutionDepthWise": ("6", "5", "7"), "InnerProduct": ("2", "1", "0")}
DECONVOLUTIONS = {"Deconvolution": ("6", "5", "0"), "DeconvolutionDepthWise": ("6", "5", "7")}
WEIGHTLESS = {"AbsVal", "BinaryOp", "Cast", "Clip", "Concat", "Crop", "Dropout", "Eltwise", "ELU", "ExpandDims",
              "Flatten", "GELU", "HardSigmoid", "HardSwish", "Input", "Interp", "Mish", "Noop", "Packing", "Padding",
              "Permute", "PixelShuffle", "Pooling", "ReLU", "Reduction", "Reorg", "Reshape", "Sigmoid", "Slice",
              "Softmax", "Split", "Squeeze", "Swish", "TanH", "UnaryOp"}
FLOAT32, FLOAT16, INT8 = 0, 0x01306B47, 0x000D4B38  # the four bytes before a weight
STORED: Dict[int, np.dtype] = {FLOAT32: np.dtype("<f4"), FLOAT16: np.dtype("<f2"), INT8: np.dtype("i1")}
ALIGNMENT = 4


@dataclasses.dataclass
class Layer:
    """A line of a .param. `params` keeps the text of each value; a key of -233NN holds an array."""

    kind: str
    name: str
    inputs: List[str]
    outputs: List[str]
    params: Dict[str, str]

    def number(self, key: str, default: int = 0) -> int:
        return int(self.params.get(key, default))

    @property
    def is_int8(self) -> bool:
        return self.kind in QUANTIZABLE and self.number(INT8_TERM) != 0


@dataclasses.dataclass
class Weights:
    """Of one layer: `values` as they are stored (empty where the layer has none of that kind), then float32 `rest`:
    the bias, and of an int8 layer the scales of the weights and of the input."""

    values: np.ndarray
    rest: np.ndarray


def bin_of(param: PathLike) -> Path:
    """The .bin of a .param: beside it and of the same name."""
    return Path(param).with_suffix(".bin")


def read_param(path: PathLike) -> List[Layer]:
    """Raises UserError for what is not a whole .param."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such .param file. python3 -m backends.ncnn.build makes it") from None
    except UnicodeDecodeError:
        lines = []
    if not lines or lines[0].strip() != MAGIC:
        raise UserError(f"{path}: not ncnn's .param as text, which begins with {MAGIC}")
    try:
        layers = [_layer(line.split()) for line in lines[2:] if line.strip()]
        count = int(lines[1].split()[0])
    except (ValueError, IndexError):
        raise UserError(f"{path}: a line is not a layer of ncnn's. Convert the model again") from None
    if count != len(layers):
        raise UserError(f"{path}: cut short: expected {count} layers, got {len(layers)}. Convert the model again")
    return layers


def _layer(words: Sequence[str]) -> Layer:
    kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
    blobs, params = words[4:4 + inputs + outputs], words[4 + inputs + outputs:]
    if len(blobs) != inputs + outputs:
        raise ValueError
    pairs = dict(word.split("=", 1) for word in params)
    return Layer(kind, name, list(blobs[:inputs]), list(blobs[inputs:]), pairs)


def format_param(layers: Sequence[Layer]) -> bytes:
    """The text of a .param; ncnn reads names of up to 255 characters without spaces."""
    lines = [MAGIC, f"{len(layers)} {sum(len(layer.outputs) for layer in layers)}"]
    for layer in layers:
        params = [f"{key}={value}" for key, value in layer.params.items()]
        lines.append(" ".join([f"{layer.kind:24} {layer.name:24} {len(layer.inputs)} {len(layer.outputs)}",
                               *layer.inputs, *layer.outputs, *params]))
    return ("\n".join(lines) + "\n").encode()


def read_weights(path: PathLike, layers: Sequence[Layer]) -> Dict[str, Weights]:
    """Layer name -> its weights, as views of the file. Raises UserError when the .bin is not that of the layers, or one
    of them is of a kind whose weights are not known here."""
    try:
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, but a .param needs the .bin of the same name beside it") from None
    weights, start = {}, 0
    for layer in layers:
        if layer.kind not in WEIGHTLESS:
            weights[layer.name], start = _read_layer(path, content, start, layer)
    if start != len(content):
        raise UserError(f"{path}: {len(content)} bytes, but the layers of the .param account for {start}: not the .bin "
                        "of this .param")
    return weights


def _read_layer(path: PathLike, content: np.ndarray, start: int, layer: Layer) -> tuple:
    tagged, plain = _lengths(layer)
    try:
        dtype = STORED[FLOAT32]
        if tagged:
            dtype = STORED[int(content[start:start + ALIGNMENT].view("<u4")[0])]
            start += ALIGNMENT
        end = start + tagged * dtype.itemsize
        values = content[start:end].view(dtype)
        start = end + -(end - start) % ALIGNMENT
        rest = content[start:start + 4 * plain].view(STORED[FLOAT32])
        if len(values) != tagged or len(rest) != plain:
            raise ValueError
    except (KeyError, ValueError, IndexError):
        raise UserError(f"{path}: cut short, or not the .bin of this .param, at layer {layer.name}. "
                        "Convert the model again") from None
    return Weights(values, rest), start + 4 * plain


def _lengths(layer: Layer) -> tuple:
    """How many weights after a tag, and how many plain float32 numbers, a layer keeps in the .bin."""
    if layer.kind in QUANTIZABLE or layer.kind in DECONVOLUTIONS:
        length, bias, channels = {**QUANTIZABLE, **DECONVOLUTIONS}[layer.kind]
        plain = layer.number("0") if layer.number(bias) else 0
        if layer.is_int8:  # a scale of each channel's weights, one of the input and, over 100, one of the output
            plain += layer.number(channels) + 1 + (layer.number(INT8_TERM) > 100)
        return layer.number(length), plain
    if layer.kind == "MemoryData":
        return 0, math.prod(max(layer.number(key), 1) for key in ("0", "1", "11", "2"))
    if layer.kind in ("BatchNorm", "PReLU"):
        return 0, layer.number("0") * (4 if layer.kind == "BatchNorm" else 1)
    if layer.kind == "Scale":
        return 0, layer.number("0") * (2 if layer.number("1") else 1)
    raise UserError(f"layer {layer.name} is a {layer.kind}, whose weights are not known here. Known are "
                    f"{', '.join([*QUANTIZABLE, *DECONVOLUTIONS])}, MemoryData, BatchNorm, PReLU and Scale")


def pack_weights(weights: Weights, tagged: bool) -> bytes:
    """One layer's part of a .bin."""
    packed = weights.values.tobytes()
    packed += bytes(-len(packed) % ALIGNMENT)
    tag = next(tag for tag, dtype in STORED.items() if dtype == weights.values.dtype)
    return (tag.to_bytes(ALIGNMENT, "little") + packed if tagged else b"") + weights.rest.astype("<f4").tobytes()


def format_bin(layers: Sequence[Layer], weights: Dict[str, Weights]) -> bytes:
    """The content of the .bin of these layers."""
    return b"".join(pack_weights(weights[layer.name], layer.kind in QUANTIZABLE or layer.kind in DECONVOLUTIONS)
                    for layer in layers if layer.name in weights)


def precision_of(layers: Sequence[Layer]) -> str:
    """int8 where any layer is, else fp32: ncnn has no file of int8 alone."""
    return "int8" if any(layer.is_int8 for layer in layers) else "fp32"
