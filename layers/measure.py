"""Two computations of one network, compared layer by layer.

The distance of a layer is |a - b| / |a| over all values of all people (RelativeEuclideanDistance). What a layer gets is
already wrong: `input` is the largest distance among what it reads, 0 for the network's input. `growth` is distance /
input. `isolated` is the distance when the layer of b reads what a's layers give, so that only its own error is seen.

The error grows at a layer when the layer itself adds more than the limit. What it adds is `isolated`. Where that is not
known, of dumps, it is the distance, if that is more than GROWTH times the input: a layer that passes on an error that
came to it adds nothing, however large that is. The limits, by gate, are above what any layer of sound networks adds
(LAYER_LIMITS). The first layer in the order of computation is the one to look at.
"""
from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from comparison.levels.heatmaps import measure_peaks
from comparison.levels.tensors import measure_sums
from contract.errors import UserError
from contract.progress import Progress
from layers.graphs import Layer
from layers.net import Net
from pose.metrics import AA, BB, DD, LARGEST, SUMS, cosines, peak_cells, relative_distances, tensor_sums

GROWTH = 5.0  # a sound convolution whose result is small beside its terms makes of an error up to 4 times as much
# Most that a layer adds, measured on the demo's FastPose and a MobileNet: 8e-7 float32, 1.1e-3 float16, 0.11 int8.
LAYER_LIMITS = {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.2}

Values = Dict[str, np.ndarray]


@dataclasses.dataclass
class LayerError:
    """`layer` of a; `shape` for one person, and `other_shape` of b where that is another; `largest` |a|; `not_finite`
    values of b. See the module for the rest."""

    layer: Layer
    shape: Tuple[int, ...]
    cosine: float
    distance: float
    max_abs: float
    largest: float
    not_finite: int
    isolated: Optional[float]
    input: float = 0.0
    grows: bool = False
    effect: Optional[float] = None
    other_shape: Optional[Tuple[int, ...]] = None

    @property
    def growth(self) -> float:
        return self.distance / self.input if self.input else np.inf if self.distance else 1.0


class Sums:
    """Sums of one tensor over people, from which its metrics follow."""

    def __init__(self) -> None:
        self.total, self.largest, self.not_finite, self.shape = np.zeros(SUMS), 0.0, 0, ()
        self.other_shape: Optional[Tuple[int, ...]] = None

    def add(self, a: np.ndarray, b: np.ndarray, name: str) -> None:
        """(n, ...) values of the same people. Another height and width is infinitely far away. Raises UserError when
        they have different shapes else, or a is not finite."""
        if a.shape[:2] != b.shape[:2] or a.ndim != b.ndim:
            raise UserError(f"{name}: {_size(a)} in the first, {_size(b)} in the second: another network or layout")
        if not np.isfinite(a).all():
            raise UserError(f"{name}: NaN or infinite values in the first, which is the reference")
        self.shape, self.largest = a.shape[1:], max(self.largest, float(np.abs(a).max()))
        if a.shape != b.shape:
            self.other_shape = b.shape[1:]
            return
        a, b = (np.atleast_2d(values).astype(np.float32, copy=False) for values in (a, b))
        finite = np.isfinite(b)
        broken = finite.size - int(np.count_nonzero(finite))
        sums = tensor_sums(a, np.where(finite, b, 0) if broken else b, atol=np.inf, rtol=0).reshape(-1, SUMS)
        self.total[[AA, BB, DD]] += sums[:, [AA, BB, DD]].sum(axis=0)
        self.total[LARGEST] = max(self.total[LARGEST], sums[:, LARGEST].max())
        self.not_finite += broken

    @property
    def comparable(self) -> bool:
        return not self.not_finite and self.other_shape is None

    @property
    def distance(self) -> float:
        return float(relative_distances(self.total)) if self.comparable else np.inf

    @property
    def cosine(self) -> float:
        """Of what is finite in b, and 0 for the rest."""
        return float(cosines(self.total)) if self.other_shape is None else 0.0

    @property
    def max_abs(self) -> float:
        return float(self.total[LARGEST]) if self.comparable else np.inf


def measure_layers(layers: List[Layer], a: Net, read_b: Callable[[np.ndarray, int], Values], isolated: Dict[str, str],
                   output: Tuple[str, str], batches: List[np.ndarray],
                   tolerances: Tuple[float, float]) -> Tuple[List[LayerError], Optional[Dict[str, Any]]]:
    """Hold `layers`, all of them in what `read_b(crops, first row)` gives under a's names, against those of `a`.

    isolated: a's tensor -> what b's layer makes of a's inputs, a tensor of `a` too. output: a's heatmaps and the name
    under which read_b gives b's. Values are dropped after each batch. Returns the layers, and what was measured of the
    output as `judge` takes it, or None where b has no output, or one of another height and width because a layer has.
    """
    sums = {layer.tensor: Sums() for layer in layers}
    alone = {layer.tensor: Sums() for layer in layers if layer.tensor in isolated}
    heatmaps, done = [], 0
    with Progress(total=sum(map(len, batches)), unit="person", desc="layers") as bar:
        for crops in batches:
            mine = a.run(crops)
            theirs = read_b(crops, done)
            for layer in layers:
                sums[layer.tensor].add(mine[layer.tensor], theirs[layer.tensor], layer.name)
                if layer.tensor in alone:
                    alone[layer.tensor].add(mine[layer.tensor], mine[isolated[layer.tensor]], layer.name)
            if output[1] in theirs and not any(one.other_shape for one in sums.values()):
                heatmaps.append(measure_heatmaps(mine[output[0]], theirs[output[1]], tolerances))
            done += len(crops)
            bar.update(len(crops))
    errors = [LayerError(layer, one.shape, one.cosine, one.distance, one.max_abs, one.largest, one.not_finite,
                         alone[layer.tensor].distance if layer.tensor in alone else None, other_shape=one.other_shape)
              for layer, one in ((layer, sums[layer.tensor]) for layer in layers)]
    return errors, measure_output(heatmaps, mine[output[0]][0, 0].size) if heatmaps else None


def _size(values: np.ndarray) -> str:
    return " x ".join(map(str, values.shape))


def measure_heatmaps(a: np.ndarray, b: np.ndarray, tolerances: Tuple[float, float]) -> Tuple[np.ndarray, ...]:
    """(n, K, h, w) each -> cells and peaks of both, (n, K), and their sums (n, K, 5)."""
    if a.ndim != 4 or a.shape != b.shape:
        raise UserError(f"the outputs are {_size(a)} and {_size(b)}, expected heatmaps (N, K, h, w) of the same size")
    a, b = a.astype(np.float32, copy=False), b.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        return (*peak_cells(a), *peak_cells(b), tensor_sums(a, b, *tolerances))


def measure_output(parts: List[Tuple[np.ndarray, ...]], elements: int) -> Dict[str, Any]:
    """The tensors and heatmaps of `comparison.levels` from what `measure_heatmaps` gave of each batch; `elements` to a
    heatmap."""
    cells_a, peaks_a, cells_b, peaks_b, sums = (np.concatenate(column) for column in zip(*parts))
    with np.errstate(invalid="ignore"):
        return {"tensors": {"normal": measure_sums(sums, elements)},
                "heatmaps": {"normal": measure_peaks(cells_a, cells_b, peaks_a, peaks_b)}}


def find_growth(errors: List[LayerError], layers: List[Layer], limit: float, growth: float) -> None:
    """Fill in `input` and `grows`. `layers` are all of a; one that was not compared stands for what it reads."""
    known = {error.layer.tensor: error.distance for error in errors}
    for layer in layers:
        known.setdefault(layer.tensor, max(known.get(name, 0.0) for name in layer.inputs))
    for error in errors:
        error.input = max(known.get(name, 0.0) for name in error.layer.inputs)
        error.grows = (error.isolated if error.isolated is not None else
                       error.distance if error.distance > growth * error.input else 0.0) > limit


def in_batches(crops: np.ndarray, batch: int) -> List[np.ndarray]:
    return [crops[start:start + batch] for start in range(0, len(crops), batch)]
