"""A parsed darknet network in torch: what its ONNX graph is checked against, and what a detector is trained with."""
from __future__ import annotations

from collections import OrderedDict
from typing import Any, Callable, Dict, Iterable, List, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.files import PathLike
from detection.blocks import (
    BOX_ATTRIBUTES,
    LEAKY_SLOPE,
    Block,
    Convolution,
    MaxPool,
    Network,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)
from detection.darknet import Arrays, read_weights


class Darknet(nn.Module):
    """(B, 3, height, width) RGB from 0 to 1 -> (B, rows, columns), the same rows as the ONNX graph's.

    The convolutions begin with torch's own random weights; `load` gives a trained network.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        self.modules_of_blocks = nn.ModuleList(_module(block) for block in network.blocks)

    def forward(self, images: Tensor) -> Tensor:
        heads = zip(self.heads(images), self.network.heads)
        return torch.cat([people_rows(raw, head) for raw, head in heads], dim=1)

    def heads(self, images: Tensor) -> List[Tensor]:
        """(B, anchors * (5 + classes), h, w) raw predictions of each head, as training wants them."""
        last, referred = images, self.network.referred
        heads: List[Tensor] = []
        kept: Dict[int, Tensor] = {}
        for number, (block, module) in enumerate(zip(self.network.blocks, self.modules_of_blocks)):
            if isinstance(block, Shortcut):
                last = last + kept[block.source]
            elif isinstance(block, Route):
                whole = [kept[source] for source in block.sources]
                last = torch.cat([values[:, first:last] for values, (first, last) in zip(whole, block.parts)] or whole,
                                 dim=1)
            elif isinstance(block, Yolo):
                heads.append(last)
            else:
                last = module(last)
            if number in referred:
                kept[number] = last
        return heads


def people_rows(raw: Tensor, head: Yolo) -> Tensor:
    """A head's raw predictions -> (B, h * w * anchors, columns): the box, the person and the best other class."""
    rows = raw.unflatten(1, (len(head.anchors), BOX_ATTRIBUTES + head.classes)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    if head.classes == 1:
        return rows
    box, classes = rows[..., :BOX_ATTRIBUTES], rows[..., BOX_ATTRIBUTES:]
    others = torch.cat([classes[..., :head.person], classes[..., head.person + 1:]], dim=-1)
    return torch.cat([box, classes[..., head.person, None], others.amax(dim=-1, keepdim=True)], dim=-1)


class Pool(nn.Module):
    def __init__(self, block: MaxPool):
        super().__init__()
        before, after = block.padding // 2, block.padding - block.padding // 2
        self.size, self.strides, self.pads = block.size, block.strides, (before, after, before, after)
        self.fill = 0.0 if block.zero_padded else float("-inf")

    def forward(self, values: Tensor) -> Tensor:
        return functional.max_pool2d(functional.pad(values, self.pads, value=self.fill), self.size, self.strides)


def _module(block: Block) -> nn.Module:
    if isinstance(block, Convolution):
        return _convolution(block)
    if isinstance(block, MaxPool):
        return Pool(block)
    return nn.Upsample(scale_factor=block.stride) if isinstance(block, Upsample) else nn.Identity()


ACTIVATIONS: Dict[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(LEAKY_SLOPE, inplace=True), "logistic": nn.Sigmoid, "mish": nn.Mish, "relu": nn.ReLU}


def _convolution(block: Convolution) -> nn.Sequential:
    parts: Dict[str, nn.Module] = {
        "conv": nn.Conv2d(block.in_channels, block.shape[0], block.size, block.strides, block.padding,
                          groups=block.groups, bias=not block.batch_normalize)}
    if block.batch_normalize:
        parts["bn"] = nn.BatchNorm2d(block.shape[0], eps=block.eps)
    if block.activation != "linear":
        parts[block.activation] = ACTIVATIONS[block.activation]()
    return nn.Sequential(OrderedDict(parts))


def build(spec: Any) -> Darknet:
    """The network of a detector's spec; weights are random."""
    return Darknet(spec.layers).eval()


def load(spec: Any, path: PathLike) -> Darknet:
    """The network of a detector's spec with the numbers of a .weights file, in eval mode."""
    return build_darknet(spec.layers, read_weights(path, spec.layers))


def build_darknet(network: Network, weights: Sequence[Arrays]) -> Darknet:
    """The network with these numbers, in eval mode. It uses the arrays themselves: a file is held once."""
    darknet = Darknet(network)
    for tensors, arrays in zip(_tensors(darknet), weights):
        for name, tensor in tensors.items():
            tensor.data = torch.from_numpy(arrays[name])
    return darknet.eval()


def get_weights(darknet: Darknet) -> List[Arrays]:
    """The inverse of `build_darknet`: what `detection.darknet.write_weights` takes."""
    return [{name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
            for tensors in _tensors(darknet)]


def _tensors(darknet: Darknet) -> List[Dict[str, Tensor]]:
    """Of each convolution, by the names of the weights file."""
    modules: Iterable[Any] = darknet.modules_of_blocks  # torch finds their parts by name
    return [{"bias": module.bn.bias, "scale": module.bn.weight, "mean": module.bn.running_mean,
             "variance": module.bn.running_var, "kernel": module.conv.weight} if block.batch_normalize
            else {"bias": module.conv.bias, "kernel": module.conv.weight}
            for block, module in zip(darknet.network.blocks, modules)
            if isinstance(block, Convolution)]
