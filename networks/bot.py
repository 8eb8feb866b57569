"""FastReID's BagTricks baseline: a ResNet with last stride 1, the mean over each map, and a batch norm as its neck.

The parameters have FastReID's names, order and shapes (324 for ResNet-50), so its checkpoints load unchanged. Older
ones (v0.1 to v1.0.0) have other names for the head, and the oldest another pool behind the stem; see `load`.
Axes: B batch, H W crop, D features.
"""
from __future__ import annotations

from typing import Any, Dict, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.errors import UserError
from contract.pixels import FASTREID_MEAN, FASTREID_STD
from networks.checkpoint import PathLike, fill_network, read_state_dict
from networks.registry import parameters_of

STAGE_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # of ResNet-50, -101
NON_LOCAL_BLOCKS = {50: (0, 2, 3, 0), 101: (0, 2, 9, 0)}  # at the end of each stage, with WITH_NL
EXPANSION = 4  # a bottleneck gives this many times its inner channels
# The pool behind the stem: FastReID from v1.0.0 rounds up and pads nothing; v0.1 pads, as torchvision does.
CEIL, PADDED = "ceil", "padded"
POOLS: Dict[str, Dict[str, Any]] = {CEIL: {"ceil_mode": True}, PADDED: {"padding": 1}}

OLD_NAMES = {"heads.bnneck.": "heads.bottleneck.0.", "heads.classifier.weight": "heads.weight"}
OTHER_HEADS = {"heads.pool_layer.p": "GeM pooling (AGW and SBS)", "heads.bottleneck.1.weight": "a reduced embedding",
               "b1_head.weight": "MGN's branches"}


class BagTricks(nn.Module):
    """(B, 3, H, W) float32 RGB from 0 to 255 -> (B, D) features after the neck; D is 2048 at width 1.

    The pixels are normalised inside, by buffers that a state_dict does not hold. H and W are multiples of 16. With `l2`
    the features have length 1, which FastReID leaves to who uses them.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, num_layers: int = 50, ibn: bool = False, non_local: bool = False, last_stride: int = 1,
                 width: float = 1.0, identities: int = 751, stem_pool: str = CEIL, l2: bool = False):
        super().__init__()
        self.l2 = l2
        if num_layers not in STAGE_BLOCKS:
            raise UserError(f"DEPTH is {num_layers}x, expected one of {', '.join(f'{n}x' for n in STAGE_BLOCKS)}")
        for name, values in (("pixel_mean", FASTREID_MEAN), ("pixel_std", FASTREID_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.backbone = ResNet(num_layers, max(1, round(64 * width)), ibn, non_local, last_stride, stem_pool)
        self.heads = EmbeddingHead(self.backbone.out_channels, identities)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.heads(self.backbone((pixels - self.pixel_mean) / self.pixel_std))
        return functional.normalize(features) if self.l2 else features


class ResNet(nn.Module):
    """Bottlenecks without a classifier; non-local blocks follow the last blocks of a stage where asked for."""

    def __init__(self, num_layers: int, stem: int, ibn: bool, non_local: bool, last_stride: int, stem_pool: str):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, **POOLS[stem_pool])
        self.out_channels = stem
        for stage, blocks in enumerate(STAGE_BLOCKS[num_layers]):
            stride = (1, 2, 2, last_stride)[stage]
            self.add_module(f"layer{stage + 1}", self._stage(blocks, stem << stage, stride, ibn and stage < 3))
        counts = NON_LOCAL_BLOCKS[num_layers] if non_local else (0, 0, 0, 0)
        for stage, count in enumerate(counts):
            channels = (stem << stage) * EXPANSION
            self.add_module(f"NL_{stage + 1}", nn.ModuleList(NonLocal(channels) for _ in range(count)))

    def _stage(self, blocks: int, inner: int, stride: int, ibn: bool) -> nn.Sequential:
        first = Bottleneck(self.out_channels, inner, ibn, stride, is_first=True)
        self.out_channels = inner * EXPANSION
        return nn.Sequential(first, *(Bottleneck(self.out_channels, inner, ibn) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            blocks, non_local = getattr(self, f"layer{stage}"), getattr(self, f"NL_{stage}")
            for number, block in enumerate(blocks, start=len(non_local) - len(blocks)):
                x = block(x)
                if number >= 0:  # one of the last len(non_local) blocks
                    x = non_local[number](x)
        return x


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1; the first block of a stage has a convolution on the residual."""

    def __init__(self, in_channels: int, inner: int, ibn: bool, stride: int = 1, is_first: bool = False):
        super().__init__()
        out_channels = inner * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = IBN(inner) if ibn else nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if is_first:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                                            nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + self.downsample(x))


class IBN(nn.Module):
    """Instance norm of the first half of the channels, batch norm of the rest (IBN-a of Pan et al., ECCV 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        self.instance_channels = channels // 2
        self.IN = nn.InstanceNorm2d(self.instance_channels, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.instance_channels)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = x[:, :self.instance_channels], x[:, self.instance_channels:]
        return torch.cat([self.IN(first), self.BN(rest)], dim=1)


class NonLocal(nn.Module):
    """Every position plus a weighted mean over all positions (Wang et al., CVPR 2018), in FastReID's form: one inner
    channel, and the affinity divided by the number of positions instead of a softmax."""

    def __init__(self, channels: int):
        super().__init__()
        self.g = nn.Conv2d(channels, 1, 1)
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), nn.BatchNorm2d(channels))
        self.theta = nn.Conv2d(channels, 1, 1)
        self.phi = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        # With one inner channel the affinity matrix is theta times phi, so its product with g needs no matrix.
        weighted = (self.phi(x) * self.g(x)).mean(dim=(2, 3), keepdim=True)
        return x + self.W(self.theta(x) * weighted)


class EmbeddingHead(nn.Module):
    """The mean of each map, then the neck. `weight`, of the training's identities, is not used in inference."""

    def __init__(self, channels: int, identities: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(identities, channels))
        self.pool_layer = nn.AdaptiveAvgPool2d(1)
        self.bottleneck = nn.Sequential(nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        return self.bottleneck(self.pool_layer(maps)).flatten(1)


def build(spec: Any, identities: int = 751, stem_pool: str = CEIL) -> BagTricks:
    """The network that a ReID spec describes, in eval mode. Weights are random."""
    own = parameters_of(spec)
    return BagTricks(own["NUM_LAYERS"], own["IBN"], own["NON_LOCAL"], own["LAST_STRIDE"], own["WIDTH"], identities,
                     stem_pool, own["L2"]).eval()


def load(spec: Any, checkpoint: PathLike) -> BagTricks:
    """The network of a spec with a checkpoint's weights, in eval mode on the CPU, float32.

    The head's names tell the release of FastReID that wrote the file, and with it the pool behind the stem: the same
    weights with the other pool give features of cosine 0.9995 to 0.9998. Raises UserError naming another head.
    """
    weights = read_state_dict(checkpoint)
    for key, head in OTHER_HEADS.items():
        if key in weights:
            raise UserError(f"{checkpoint}: holds {key}, so its head is {head}. Expected the BagTricks baseline: "
                            "global average pooling and one batch norm")
    weights, stem_pool = current_names(weights)
    identities = len(weights["heads.weight"]) if "heads.weight" in weights else 0
    network = build(spec, identities, stem_pool)
    for name in ("pixel_mean", "pixel_std"):
        if name in weights:
            getattr(network, name).copy_(weights.pop(name))
    fill_network(network, weights, checkpoint)
    return network


def current_names(weights: Dict[str, Tensor]) -> Tuple[Dict[str, Tensor], str]:
    """The weights under the names of FastReID v1.3, and which of POOLS their release had."""
    stem_pool = PADDED if any(key.startswith("heads.bnneck.") for key in weights) else CEIL
    return {_current_name(key): value for key, value in weights.items()}, stem_pool


def _current_name(key: str) -> str:
    for old, new in OLD_NAMES.items():
        if key.startswith(old):
            return new + key[len(old):]
    return key
