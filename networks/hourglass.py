"""Hourglass: a network that halves its map five times and comes back, as mmpose builds it (stacked hourglass of
Newell, Yang and Deng, ECCV 2016).

The parameters have mmpose 0.x's names, order and shapes; `load` takes those of 1.x as well.
Axes: B batch, K joints, H W crop, h w heatmap = H/4, W/4.
"""
from __future__ import annotations

from typing import Any, Dict, Sequence

from torch import Tensor, nn
from torch.nn import functional

from contract.errors import UserError
from contract.files import PathLike
from networks.checkpoint import load_checkpoint
from networks.fastpose import scaled_channels
from networks.registry import parameters_of

# mmpose's stage_channels and stage_blocks at its depth of 5; the last of each belongs to the smallest map. A shallower
# network leaves out the middle.
STAGE_CHANNELS, STAGE_BLOCKS = (256, 256, 384, 384, 384, 512), (2, 2, 2, 2, 2, 4)
MAX_DEPTH = len(STAGE_BLOCKS) - 1
STEM_CHANNELS = 128


def mmpose_1x_to_0x(weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """The same tensors under the names of mmpose 0.x, without the constants that 1.x normalises pixels with."""
    return {f"keypoint_{key}" if key.startswith("head.") else key: value for key, value in weights.items()
            if not key.startswith("data_preprocessor.")}


class Hourglass(nn.Module):
    """(B, 3, H, W) normalised RGB crops -> (B, K, h, w) heatmaps of the last stack, raw (no activation).

    H and W are multiples of 4 * 2 ** depth. width multiplies every channel count except the joints'; depth 5, one stack
    and width 1 are mmpose's hourglass52.
    """

    def __init__(self, depth: int = 5, stacks: int = 1, width: float = 1.0, num_joints: int = 17):
        super().__init__()
        if not 1 <= depth <= MAX_DEPTH:
            raise UserError(f"DEPTH is {depth}, expected 1 to {MAX_DEPTH}")
        channels = [scaled_channels(count, width) for count in (*STAGE_CHANNELS[:depth], STAGE_CHANNELS[-1])]
        self.backbone = Backbone(channels, (*STAGE_BLOCKS[:depth], STAGE_BLOCKS[-1]), stacks,
                                 scaled_channels(STEM_CHANNELS, width))
        self.keypoint_head = Head(channels[0], num_joints, stacks)

    def forward(self, crops: Tensor) -> Tensor:
        return self.keypoint_head(self.backbone(crops))


class Head(nn.Module):
    """A 1x1 convolution to heatmaps for each stack, of which inference needs the last."""

    def __init__(self, channels: int, num_joints: int, stacks: int):
        super().__init__()
        self.multi_final_layers = nn.ModuleList(nn.Conv2d(channels, num_joints, 1) for _ in range(stacks))

    def forward(self, x: Tensor) -> Tensor:
        return self.multi_final_layers[-1](x)


class Backbone(nn.Module):
    """(B, 3, H, W) -> (B, channels[0], H/4, W/4) of the last stack."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int], stacks: int, stem: int):
        super().__init__()
        outer = channels[0]
        self.stem = nn.Sequential(ConvModule(3, stem, 7, stride=2), chain(stem, outer, 1, stride=2))
        self.hourglass_modules = nn.ModuleList(Level(channels, blocks) for _ in range(stacks))
        # Between stacks. mmpose makes one block where there is one stack as well: it is in the checkpoint, and not run.
        self.inters = chain(outer, outer, max(stacks - 1, 1))
        self.conv1x1s = nn.ModuleList(ConvModule(outer, outer, 1, activate=False) for _ in range(stacks - 1))
        self.out_convs = nn.ModuleList(ConvModule(outer, outer, 3) for _ in range(stacks))
        self.remap_convs = nn.ModuleList(ConvModule(outer, outer, 1, activate=False) for _ in range(stacks - 1))

    def forward(self, crops: Tensor) -> Tensor:
        x = self.stem(crops)
        out = self.out_convs[0](self.hourglass_modules[0](x))
        for number, (conv1x1, remap, inter) in enumerate(zip(self.conv1x1s, self.remap_convs, self.inters), start=1):
            x = inter(functional.relu(conv1x1(x) + remap(out)))
            out = self.out_convs[number](self.hourglass_modules[number](x))
        return out


class Level(nn.Module):
    """One halving and everything below it, (B, channels[0], h, w) -> the same shape."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]):
        super().__init__()
        outer, inner, count = channels[0], channels[1], blocks[0]
        self.up1 = chain(outer, outer, count)
        self.low1 = chain(outer, inner, count, stride=2)
        self.low2 = Level(channels[1:], blocks[1:]) if len(channels) > 2 else chain(inner, inner, blocks[1])
        self.low3 = chain(inner, outer, count, change_last=True)

    def forward(self, x: Tensor) -> Tensor:
        below = self.low3(self.low2(self.low1(x)))
        return self.up1(x) + functional.interpolate(below, scale_factor=2.0)  # nearest


class ConvModule(nn.Module):
    """Convolution that keeps the size (up to its stride), batch norm and, unless told otherwise, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int = 1, activate: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return functional.relu(x) if self.activate else x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                                            nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


def chain(in_channels: int, out_channels: int, count: int, stride: int = 1, change_last: bool = False) -> nn.Sequential:
    """`count` blocks, of which the first has the stride, and the first or the last changes the channels."""
    changes = count - 1 if change_last else 0
    return nn.Sequential(*(BasicBlock(in_channels if number <= changes else out_channels,
                                      in_channels if number < changes else out_channels,
                                      stride if number == 0 else 1) for number in range(count)))


def build(spec: Any) -> Hourglass:
    """The network of a spec; weights are random."""
    parameters = parameters_of(spec)
    return Hourglass(parameters["DEPTH"], parameters["STACKS"], parameters["WIDTH"], len(spec.skeleton)).eval()


def load(spec: Any, checkpoint: PathLike) -> Hourglass:
    """The network of a spec with the weights of mmpose 0.x or 1.x, in eval mode on the CPU, float32.

    Raises UserError for a file that is no checkpoint, or the checkpoint of another network.
    """
    network = build(spec)
    load_checkpoint(network, checkpoint, mmpose_1x_to_0x)
    return network
