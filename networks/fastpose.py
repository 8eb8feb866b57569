"""FastPose: a ResNet whose stages begin with squeeze-and-excitation, and three pixel shuffles up to the heatmaps.

The parameters have AlphaPose's names, order and shapes, so its published checkpoints load unchanged.
Axes: B batch, K joints, H W crop, h w heatmap = H/4, W/4.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor, nn

from contract.errors import UserError
from contract.pixels import pixel_constants
from networks.checkpoint import PathLike, load_checkpoint
from networks.registry import parameters_of

STAGE_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # of ResNet-50, -101, -152
EXPANSION = 4  # a bottleneck gives this many times its inner channels
CHANNEL_STEP = 2  # narrow networks keep even channel counts


class FastPose(nn.Module):
    """(B, 3, H, W) normalised RGB crops -> (B, K, h, w) heatmaps, raw (no activation); H and W are multiples of 32.

    conv_dim: channels before the last convolution (AlphaPose's CONV_DIM). width: multiplies every channel count except
    the joints'; 1 is AlphaPose's network.
    """

    def __init__(self, num_layers: int = 50, conv_dim: int = 128, width: float = 1.0, num_joints: int = 17):
        super().__init__()
        if num_layers not in STAGE_BLOCKS:
            raise UserError(f"NUM_LAYERS is {num_layers}, expected one of {', '.join(map(str, STAGE_BLOCKS))}")
        stem, middle, conv_dim = (scaled_channels(count, width) for count in (64, 256, conv_dim))
        self.preact = SEResNet(STAGE_BLOCKS[num_layers], stem)
        self.shuffle = nn.PixelShuffle(2)
        self.duc1 = DUC(self.preact.out_channels // 4, middle)
        self.duc2 = DUC(middle, conv_dim)
        self.conv_out = nn.Conv2d(conv_dim, num_joints, 3, padding=1)

    def forward(self, crops: Tensor) -> Tensor:
        features = self.shuffle(self.preact(crops))  # (B, 512, H/16, W/16) at width 1
        return self.conv_out(self.duc2(self.duc1(features)))


class SEResNet(nn.Module):
    """ResNet of bottlenecks, (B, 3, H, W) -> (B, 32 * stem, H/32, W/32); the first block of each stage has an SE."""

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, stage_blocks: tuple, stem: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.out_channels = stem
        for number, blocks in enumerate(stage_blocks, start=1):
            self.add_module(f"layer{number}", self._stage(blocks, stem << (number - 1), stride=min(number, 2)))

    def _stage(self, blocks: int, inner: int, stride: int) -> nn.Sequential:
        first = Bottleneck(self.out_channels, inner, stride, is_first=True)
        self.out_channels = inner * EXPANSION
        return nn.Sequential(first, *(Bottleneck(self.out_channels, inner) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1; the first block of a stage also has SE and a convolution on the residual."""

    def __init__(self, in_channels: int, inner: int, stride: int = 1, is_first: bool = False):
        super().__init__()
        out_channels = inner * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.se: nn.Module = nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if is_first:
            self.se = SELayer(out_channels)
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                                            nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.se(self.bn3(self.conv3(y)))
        return self.relu(y + self.downsample(x))


class SELayer(nn.Module):
    """Squeeze and excitation with reduction 1: each channel is scaled by what all channels' means say."""

    def __init__(self, channels: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels),
                                nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gates = self.fc(self.pool(x).flatten(1))  # (B, C); flatten and unsqueeze export without shape arithmetic
        return x * gates.unsqueeze(2).unsqueeze(3)


class DUC(nn.Module):
    """Dense upsampling: a 3x3 convolution to 4 times the channels, which a pixel shuffle turns into twice the size."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels * 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels * 4)
        self.relu = nn.ReLU(inplace=True)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.relu(self.bn(self.conv(x))))


class PixelInput(nn.Module):
    """The crop's own bytes to what the network takes: (B, H, W, 3) uint8 -> (B, 3, H, W) float32.

    With the constants and in the order of Ascend's AIPP, which does the same in front of an .om. ONNX Runtime takes 10
    times as long for it in runs of 3 values as with `channels_first`. Where a convolution follows, onnxsim multiplies
    its weights then, and the last bits change.
    """

    mean_chn: Tensor
    min_chn: Tensor
    var_reci_chn: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels_first: bool = False):
        super().__init__()
        self.channels_first, shape = channels_first, (3, 1, 1) if channels_first else (3,)
        for name, values in pixel_constants(mean, std).items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).reshape(shape))

    def forward(self, pixels: Tensor) -> Tensor:
        values = pixels.float()
        values = values.permute(0, 3, 1, 2) if self.channels_first else values
        values = ((values - self.mean_chn) - self.min_chn) * self.var_reci_chn
        return values if self.channels_first else values.permute(0, 3, 1, 2)


def scaled_channels(count: int, width: float) -> int:
    """`count` channels of the full network in one `width` times as wide, rounded to a multiple of CHANNEL_STEP."""
    return count if width == 1 else max(1, round(count * width / CHANNEL_STEP)) * CHANNEL_STEP


def build(spec: Any) -> FastPose:
    """The network of a spec; weights are random."""
    parameters = parameters_of(spec)
    return FastPose(parameters["NUM_LAYERS"], parameters["CONV_DIM"], parameters["WIDTH"], len(spec.skeleton)).eval()


def load(spec: Any, checkpoint: PathLike) -> FastPose:
    """The network of a spec with a checkpoint's weights, in eval mode on the CPU, float32.

    Raises UserError for a file that is no checkpoint, or the checkpoint of another network.
    """
    network = build(spec)
    load_checkpoint(network, checkpoint)
    return network
