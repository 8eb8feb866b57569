"""Int8 networks that are tried on a few crops: how far their output is from float32's, and what each layer takes."""
from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np
from onnx import ModelProto, NodeProto

from contract.files import PathLike
from contract.progress import Progress
from contract.ranges import METHODS, Range, bounds
from quantization.bias import bias_corrections
from quantization.decision import Decision
from quantization.graph import Graph, multiplications
from quantization.memory import Memory
from quantization.qdq import FORMS, layers_of, result_of, to_qdq
from quantization.running import TIMED_RUNS, Network, batch_of, least_ms, open_session, run

OF_OTHER_LAYERS = "kept for this trial"


class Trials:
    """`model` is prepared and `ranges` are of it; `rows`: (n, ...) crops that int8 is tried on; `path` names the model
    in errors; `fixed`: layers that always stay float -> why, which are not among `layers`; `memory` of what a run that
    was stopped has tried."""

    def __init__(self, model: ModelProto, form: str, ranges: Mapping[str, Range], rows: np.ndarray, path: PathLike,
                 fixed: Mapping[str, str] = MappingProxyType({}), memory: Optional[Memory] = None):
        self.model, self.form, self.ranges, self.rows, self.path = model, form, ranges, rows, path
        self.graph, self.fixed, self.memory = Graph(model), fixed, memory or Memory()
        self.layers: List[NodeProto] = [one for one in layers_of(self.graph, FORMS[form]) if one.name not in fixed]
        self.bias: Dict[str, List[float]] = {}
        self.expected = Network(model.SerializeToString(), path).infer(rows).astype(np.float64)

    def decide(self, method: str, kept: Mapping[str, str]) -> Decision:
        ranges = {name: bounds(one, method) for name, one in self.ranges.items()}
        return Decision(ranges, {**self.fixed, **kept}, method, bias=self.bias)

    def correct(self, method: str, batches: Iterable[np.ndarray] = ()) -> None:
        """From now on decisions have the corrections of this method, measured on `batches`, or else on `rows`."""
        self.bias = {}
        self.bias = bias_corrections(self.model, self.decide(method, {}), self.form, batches or [self.rows], self.path)

    def network(self, decision: Decision) -> Network:
        return Network(to_qdq(self.model, decision, self.form).SerializeToString(), self.path)

    def distance(self, decision: Decision) -> float:
        """|int8 - float32|^2 / |float32|^2 of the output, over all rows. Of layers tried alone these add up, as long as
        their errors have nothing to do with each other."""
        off = self.network(decision).infer(self.rows) - self.expected
        return float((off ** 2).sum() / max((self.expected ** 2).sum(), np.finfo(np.float64).tiny))

    def methods(self, kept: Mapping[str, str]) -> Dict[str, float]:
        """Method -> distance of the output with it."""
        return {method: self.memory.once(f"method {method}", self.distance, self.decide(method, kept))
                for method in Progress(METHODS, unit="method", desc="methods")}

    def effects(self, method: str) -> Dict[str, float]:
        """Layer -> distance of the output when it alone is int8."""
        names = [layer.name for layer in self.layers]

        def alone(name: str) -> float:
            return self.distance(self.decide(method, {other: OF_OTHER_LAYERS for other in names if other != name}))

        return {name: self.memory.once(f"effect of {name}", alone, name)
                for name in Progress(names, unit="layer", desc="each layer alone")}

    def times(self, method: str) -> Dict[str, Tuple[float, float]]:
        """Layer -> milliseconds per crop in float32 and in int8, of ONNX Runtime on this CPU; 0 where its profile does
        not tell, because the layer was fused into another. For another device: the network's time here, shared out by
        multiplications, of which int8 takes half as long as float16 there."""
        if self.form != "cpu":
            counts = multiplications(self.model)
            each = self.memory.once("time", self._float_ms) / max(sum(counts.values()), 1)
            return {layer.name: (each * counts.get(layer.name, 0), each * counts.get(layer.name, 0) / 2)
                    for layer in self.layers}
        quantized = to_qdq(self.model, self.decide(method, {}), self.form)
        profiles = self.memory.once("times", lambda: [profile(one.SerializeToString(), self.rows, self.path)
                                                      for one in (self.model, quantized)])
        names = {layer.name: _names_in_profiles(self.graph, layer) for layer in self.layers}
        slow, fast = ({layer: next((times[name] for name in known if name in times), 0.0)
                       for layer, known in names.items()} for times in profiles)
        return {layer: (slow[layer], fast[layer]) for layer in names}

    def _float_ms(self) -> float:
        return least_ms(self.model.SerializeToString(), self.rows, self.path)


def profile(content: bytes, rows: np.ndarray, path: PathLike) -> Dict[str, float]:
    """Node -> least milliseconds per crop in ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(content, path, profile=str(Path(folder) / "profile"))
        at_once = rows[:batch_of(session) or 1]
        for _ in range(TIMED_RUNS):
            run(session, [session.get_outputs()[0].name], at_once, path)
        events: List[Dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    times: Dict[str, List[float]] = {}
    for event in events:
        name = event["name"].replace("_kernel_time", "")
        if event.get("cat") == "Node" and name != event["name"]:
            times.setdefault(re.sub(r"_token_\d+$", "", name), []).append(event["dur"] / 1000 / len(at_once))
    return {name: min(values) for name, values in times.items()}


def _names_in_profiles(graph: Graph, layer: NodeProto) -> List[str]:
    """A layer is called by its node, or once fused with its Relu, or laid out in blocks, by what it gives."""
    results = [layer.output[0], result_of(graph, layer)]
    after = graph.only_reader(results[1])  # an Add is fused into the convolution before it
    if after is not None and after.op_type == "Add":
        results += [after.output[0], result_of(graph, after)]
    return [layer.name, f"fused {layer.name}", *(f"{name}_nchwc" for name in results)]
