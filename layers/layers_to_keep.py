"""Which layers to keep in higher precision, and their names as each tool wants them.

Every layer that adds an error is tried alone: the network in full precision but for this layer, which gives what it
does to the output. In the order of that, layers are kept until the output passes its gate; the count is doubled until
it does and then halved down, so that few networks are run. What is printed after is of a network run with these kept.
"""
from __future__ import annotations

import dataclasses
import re
import shlex
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from onnx import ModelProto

from comparison.gates import judge
from comparison.limits import Verdict
from contract.progress import Progress
from layers.grafting import transplant
from layers.measure import LayerError, measure_heatmaps, measure_output
from layers.net import Net

Types = Tuple[Dict[str, int], Dict[str, int]]


@dataclasses.dataclass
class Kept:
    """`layers` are in the order of computation; `output`, `verdicts` and `model` are of the network with them kept."""

    layers: List[LayerError]
    output: Dict[str, Any]
    verdicts: List[Verdict]
    model: ModelProto

    @property
    def passes(self) -> bool:
        return all(verdict.kept for verdict in self.verdicts)


class Trials:
    """Networks mixed of the two graphs, run on the same people and compared with a."""

    def __init__(self, a: ModelProto, b: ModelProto, pairs: Dict[str, str], types: Types, batches: List[np.ndarray],
                 limits: Dict[str, float]):
        """pairs: a's tensor -> b's; types: element types of a's and b's tensors."""
        self.a, self.b, self.pairs, self.types, self.batches, self.limits = a, b, pairs, types, batches, limits
        self.expected = self._run(a, "reference")

    def _run(self, model: ModelProto, name: str) -> List[np.ndarray]:
        output = model.graph.output[0].name
        net = Net(model, [output], name)
        return [net.run(crops)[output] for crops in self.batches]

    def _output(self, model: ModelProto) -> Dict[str, Any]:
        tolerances = self.limits["atol"], self.limits["rtol"]
        return measure_output([measure_heatmaps(expected, came, tolerances)
                               for expected, came in zip(self.expected, self._run(model, "mixed network"))],
                              self.expected[0][0, 0].size)

    def effect(self, error: LayerError) -> float:
        """Distance of the output when this layer alone is b's."""
        mixed = transplant(self.a, self.b, self.pairs, [error.layer.tensor], self.types)
        distance = self._output(mixed)["tensors"]["normal"].RelativeEuclideanDistance
        return distance if np.isfinite(distance) else np.inf

    def keep(self, errors: List[LayerError]) -> Kept:
        """b with these layers of a."""
        swapped = {theirs: mine for mine, theirs in self.pairs.items()}
        mixed = transplant(self.b, self.a, swapped, [self.pairs[error.layer.tensor] for error in errors],
                           self.types[::-1])
        output = self._output(mixed)
        return Kept(errors, output, judge(output, self.limits), mixed)


def choose_kept(errors: List[LayerError], trials: Trials, budget: int) -> Kept:
    """The layers to keep, at most `budget`. When that many do not suffice, these are they all the same: see `passes`.

    Fills in the effect of each layer. Layers whose node has no name cannot be told to any tool, and are not kept.
    """
    candidates = [error for error in errors if error.isolated and all(error.layer.nodes)]
    for error in Progress(candidates, unit="layer", desc="effect of each"):
        error.effect = trials.effect(error)
    ranked = sorted(candidates, key=lambda error: error.effect or 0.0, reverse=True)

    def keep(count: int) -> Kept:
        chosen = {error.layer.tensor for error in ranked[:count]}
        return trials.keep([error for error in errors if error.layer.tensor in chosen])

    return fewest(keep, min(budget, len(ranked)))


def fewest(keep: Callable[[int], Any], most: int) -> Any:
    """The result of the smallest count, 1 to `most`, that `passes`, taking more to be no worse; else of `most`."""
    failing, count = 0, 1
    best: Any = None
    while best is None and failing < most:
        tried = keep(count)
        if tried.passes or count == most:
            best = tried
        else:
            failing, count = count, min(2 * count, most)
    best = best or keep(most)
    while best.passes and count - failing > 1:
        middle = (failing + count) // 2
        tried = keep(middle)
        if tried.passes:
            best, count = tried, middle
        else:
            failing = middle
    return best


def keep_lists(nodes: List[str], quantized: bool) -> Dict[str, Any]:
    """The same nodes for each tool, out of int8 where `quantized`, else out of float16.

    `keep_dtype` is a file's content for atc, which keeps from float16 alone; `trtexec` options of releases up to 10;
    `modelopt` those of its converter for TensorRT 11; `nodes_to_exclude` an argument of quantize_static.
    """
    layers = ",".join(f"{name}:fp32" for name in nodes)
    lower = ["--int8", "--fp16", "--calib=CalibrationTable"] if quantized else ["--fp16"]
    return {"keep_dtype": "" if quantized else "".join(f"{name}\n" for name in nodes),
            "trtexec": shlex.join([*lower, "--precisionConstraints=obey", f"--layerPrecisions={layers}",
                                   f"--layerOutputTypes={layers}"]),
            "modelopt": shlex.join(["--nodes_to_exclude", *(f"^{re.escape(name)}$" for name in nodes)]),
            "nodes_to_exclude": nodes}
