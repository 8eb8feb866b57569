"""One pass: from a normalised crop to its keypoints inside the model, mirrored crop, mean, highest cell and all.

The arithmetic is that of pose.heatmaps and pose.decoders, in operators that atc, TensorRT and OpenVINO take: no Mod, no
loops, whole numbers for cells, which float16 would round from 2048 on.
Axes: B batch, K joints, H W crop, h w heatmap.
"""
from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, Tuple

import torch
from torch import Tensor, nn

QUARTER = 0.25
REACH, SIGMA, LEAST = 5, 2.0, 1e-10  # of the smoothing in pose.dark, and what it takes the logarithm of at least
# The cells (x, y) around a peak, and its derivatives by x and y, times 4, as weights of their values. `second` is by y
# first, because the step along x is divided by it; `mixed` is needed for both steps.
AROUND = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (2, 0), (-2, 0), (0, 2), (0, -2),
          (1, 1), (1, -1), (-1, 1), (-1, -1))
BY_X, BY_Y = (0, 2, -2, *[0] * 10), (0, 0, 0, 2, -2, *[0] * 8)
TWICE_X, TWICE_Y = (-2, 0, 0, 0, 0, 1, 1, *[0] * 6), (-2, *[0] * 6, 1, 1, *[0] * 4)
BY_BOTH = (*[0] * 9, 1, -1, -1, 1)
DERIVATIVES = {"first": (BY_X, BY_Y), "second": (TWICE_Y, TWICE_X), "mixed": (BY_BOTH, BY_BOTH)}


class OnePass(nn.Module):
    """(B, 3, H, W) normalised crops -> (B, K, 3): x and y in pixels of the crop, and the score, of each joint.

    `spec` is what PoseSpec.one_pass gives. Where it says heatmaps, the mean of both crops' is given, (B, K, h, w).
    """

    def __init__(self, network: nn.Module, spec: Any):
        super().__init__()
        self.mirror, self.network, self.decode = Mirror(spec), network, Decode(spec)

    def forward(self, crops: Tensor) -> Tensor:
        return self.decode(self.network(self.mirror(crops)).float())


class Mirror(nn.Module):
    """(B, 3, H, W) crops -> (2 B, 3, H, W): the crops, then their mirror images. As they are without a flip test."""

    order: Tensor

    def __init__(self, spec: Any):
        super().__init__()
        self.flip = bool(spec.inside.columns)
        self.register_buffer("order", torch.arange(spec.input_size[1] - 1, -1, -1))

    def forward(self, crops: Tensor) -> Tensor:
        return torch.cat([crops, crops.index_select(3, self.order)]) if self.flip else crops


class Decode(nn.Module):
    """The network's (2 B, K, h, w) heatmaps, of crops and then of their mirror images -> (B, K, 3) keypoints."""

    joints: Tensor
    columns: Tensor

    def __init__(self, spec: Any):
        super().__init__()
        shape = (len(spec.skeleton), *spec.heatmap_size)
        self.shape = (2, -1, *shape)
        self.flip = bool(spec.inside.columns)
        self.stride = spec.input_size[1] / spec.heatmap_size[1]
        self.register_buffer("joints", torch.as_tensor(spec.skeleton.mirrored))
        self.register_buffer("columns", torch.tensor(spec.inside.columns or [0]))
        self.find = FINDERS[spec.inside.decode](*shape)
        self.gives_heatmaps = "output" in spec.outputs

    def forward(self, maps: Tensor) -> Tensor:
        both = self.turned_back(maps) if self.flip else [maps]
        if self.gives_heatmaps:
            return mean(both)
        found = [self.find(mean(both))] if self.find.of_the_mean else [self.find(one) for one in both]
        positions, scores = (mean(values) for values in zip(*found))
        return torch.cat([positions * self.stride, scores], 2)

    def turned_back(self, maps: Tensor) -> List[Tensor]:
        """Two (B, K, h, w): the second laid over the first, left and right joints exchanged."""
        both = maps.reshape(self.shape)
        return [both[0], both[1].index_select(1, self.joints).index_select(3, self.columns)]


def mean(values: Any) -> Tensor:
    """Of one or two tensors."""
    return values[0] if len(values) == 1 else (values[0] + values[1]) / 2


class Peaks(nn.Module):
    """(B, K, h, w) -> (B, K, 2) positions x, y in cells and (B, K, 1) scores, as pose.heatmaps.find_peaks gives them.

    `empty` is where a joint without a positive value goes. With `by_axis` each axis moves by itself (mmpose 1.x).
    """

    of_the_mean, is_steady = True, True
    last: Tensor
    steps: Tensor
    exchange: Tensor
    empty: Tensor
    inner: Tensor
    still: Tensor

    def __init__(self, joints: int, height: int, width: int, empty: int = 0, by_axis: bool = False):
        super().__init__()
        self.rows, self.width, self.by_axis = (-1, joints, height * width), width, by_axis
        self.register_buffer("last", torch.tensor([width - 1.0, height - 1.0]))
        self.register_buffer("steps", torch.tensor([1, width]))  # to the next cell along x, and along y
        self.register_buffer("exchange", torch.tensor([1, 0]))
        self.register_buffer("empty", torch.tensor(float(empty)))
        self.register_buffer("inner", torch.tensor(width + 1))  # a cell that has all neighbours
        self.register_buffer("still", torch.tensor(0.0))

    def forward(self, heatmaps: Tensor) -> Tuple[Tensor, Tensor]:
        cells = heatmaps.reshape(self.rows)
        scores, index, at = highest(cells, self.width, self.empty)
        moves = self.moving(at)
        centre = torch.where(moves, index, self.inner)
        slope = cells.gather(2, centre + self.steps) - cells.gather(2, centre - self.steps)
        return at + torch.where(moves, QUARTER * torch.sign(slope), self.still), scores

    def moving(self, at: Tensor) -> Tensor:
        """Which positions move along x and along y, (B, K, 2), as pose.heatmaps' moves_inside or moves_by_axis."""
        inside = (at > 1) & (at < self.last)
        other = at > 0 if self.by_axis else inside
        return inside & other.index_select(2, self.exchange)


def highest(cells: Tensor, width: int, empty: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """(B, K, h * w) -> (B, K, 1) the highest values and which cells have them, and (B, K, 2) x and y of these, which
    are `empty` where nothing is positive."""
    scores, index = cells.amax(2, keepdim=True), cells.argmax(2, keepdim=True)
    y = torch.div(index, width, rounding_mode="trunc")
    at = torch.cat([index - y * width, y], 2).float()
    return scores, index, torch.where(scores > 0, at, empty)


class RefinedPeaks(nn.Module):
    """(B, K, h, w) -> (B, K, 2) positions x, y in cells and (B, K, 1) scores, as pose.dark.find_refined_peaks."""

    of_the_mean, is_steady = True, False
    down: Tensor
    right: Tensor
    around: Tensor
    first: Tensor
    second: Tensor
    mixed: Tensor
    last: Tensor
    exchange: Tensor
    still: Tensor
    one: Tensor
    inner: Tensor

    def __init__(self, joints: int, height: int, width: int):
        super().__init__()
        self.rows, self.width, self.shape = (-1, joints, height * width), width, (-1, 1, height, width)
        kernel = torch.exp(-torch.arange(-REACH, REACH + 1).double() ** 2 / (2 * SIGMA ** 2))
        kernel = (kernel / kernel.sum()).float()
        self.register_buffer("down", kernel.reshape(1, 1, -1, 1))
        self.register_buffer("right", kernel.reshape(1, 1, 1, -1))
        self.register_buffer("around", torch.tensor([x + y * width for x, y in AROUND]))
        for name, two in DERIVATIVES.items():
            self.register_buffer(name, torch.tensor(two).T / 4)
        self.register_buffer("last", torch.tensor([width - 2.0, height - 2.0]))
        self.register_buffer("exchange", torch.tensor([1, 0]))
        self.register_buffer("still", torch.tensor(0.0))
        self.register_buffer("one", torch.tensor(1.0))
        self.register_buffer("inner", torch.tensor(2 * width + 2))  # a cell that has all of AROUND

    def forward(self, heatmaps: Tensor) -> Tuple[Tensor, Tensor]:
        scores, index, at = highest(heatmaps.reshape(self.rows), self.width, self.still)
        smooth = nn.functional.conv2d(heatmaps.reshape(self.shape), self.down, padding=(REACH, 0))
        smooth = nn.functional.conv2d(smooth, self.right, padding=(0, REACH))
        logs = torch.log(smooth.clamp(min=LEAST)).reshape(self.rows)
        inside = torch.cat([1 - at, at - self.last], 2).amax(2, keepdim=True) < 0
        values = logs.gather(2, torch.where(inside, index, self.inner) + self.around)
        first, second, mixed = values @ self.first, values @ self.second, values @ self.mixed
        determinant = second * second.index_select(2, self.exchange) - mixed * mixed
        step = mixed * first.index_select(2, self.exchange) - second * first
        moves = inside & ((step.abs() - determinant.abs()).amax(2, keepdim=True) < 0)
        return at + torch.where(moves, step / torch.where(moves, determinant, self.one), self.still), scores


class Expectation(nn.Module):
    """(B, K, h, w) -> (B, K, 2) positions x, y in cells and (B, K, 1) scores, as pose.heatmaps.expected_positions."""

    of_the_mean, is_steady = False, True
    cells: Tensor

    def __init__(self, joints: int, height: int, width: int, norm: str):
        super().__init__()
        self.rows, self.norm = (-1, joints, height * width), norm
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        self.register_buffer("cells", torch.stack([x.flatten(), y.flatten()], 1).float())

    def forward(self, heatmaps: Tensor) -> Tuple[Tensor, Tensor]:
        logits = heatmaps.reshape(self.rows)
        if self.norm == "softmax":
            weights = torch.softmax(logits, 2)
            return weights @ self.cells, weights.sum(2, keepdim=True) * 0 + 1
        weights = torch.sigmoid(logits)
        return weights @ self.cells / weights.sum(2, keepdim=True), weights.amax(2, keepdim=True)


# As pose.decoders.DECODERS names them -> what finds joints in heatmaps of (K, h, w). One that is not steady divides by
# what may be near 0, so that rounding shows.
FINDERS: Dict[str, Callable[..., Any]] = {
    "peak": Peaks,
    "dark": RefinedPeaks,
    "mmpose-0.x": partial(Peaks, empty=-1),
    "mmpose-1.x": partial(Peaks, empty=-1, by_axis=True),
    "regression_sigmoid": partial(Expectation, norm="sigmoid"),
    "regression_softmax": partial(Expectation, norm="softmax"),
}
