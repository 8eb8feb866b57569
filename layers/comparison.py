"""What compare_layers.py does: two graphs, one graph in two precisions, or a graph and dumps, layer by layer."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from onnx import ModelProto, TensorProto

from comparison.gates import judge
from comparison.limits import Verdict
from contract.bins import BinReader
from contract.errors import UserError
from contract.onnx_file import opset_of
from layers.alignment import align
from layers.grafting import isolate
from layers.graphs import Layer, find_layers, inputs_of, load_graph, with_opset
from layers.layer_dumps import open_dumps
from layers.layers_to_keep import Kept, Trials, Types, choose_kept, keep_lists
from layers.low_precision import emulate_float16, quantize_int8
from layers.measure import LayerError, Values, find_growth, in_batches, measure_layers
from layers.net import Net
from layers.operator_fault import OperatorFault, fault_of_dumps, fault_of_graphs
from pose.spec import PoseSpec

PEOPLE_AT_ONCE = 2  # all layers of FastPose ResNet-50 take 0.1 GB a person, and up to four copies are held
FP16, INT8 = SETTINGS = ("fp16", "int8")
OUTPUT_OF_B = ""  # its key beside tensors of a, none of which has an empty name


@dataclasses.dataclass(frozen=True)
class Options:
    """`limits` of the gate for the output, `layer_limit` and `growth` for a layer; `calibrate` people for int8;
    `budget`: most layers to keep."""

    people: int
    limits: Dict[str, float]
    layer_limit: float
    growth: float
    calibrate: int
    budget: int


@dataclasses.dataclass
class LayerComparison:
    """`output` and `verdicts` are what was measured of the output and what the gate says; None and empty where dumps
    have none. `alone` and `alone_b` are layers that only one has; `fault` is what is wrong in `first`, if that can be
    run alone; `lower` is the graph that was made of a, if one was; `quantized`: b has int8."""

    a: str
    b: str
    people: int
    errors: List[LayerError]
    output: Optional[Dict[str, Any]]
    verdicts: List[Verdict]
    alone: List[Layer]
    alone_b: List[Layer]
    fault: Optional[OperatorFault] = None
    lower: Optional[ModelProto] = None
    kept: Optional[Kept] = None
    quantized: bool = False

    @property
    def first(self) -> Optional[LayerError]:
        return next((error for error in self.errors if error.grows), None)

    @property
    def agree(self) -> bool:
        """Of the output; where there is none, of the layers."""
        return all(verdict.kept for verdict in self.verdicts) if self.verdicts else self.first is None

    @property
    def to_keep(self) -> List[str]:
        """Names of nodes: as sought, or where nothing was (dumps cannot be run again) those where the error grows."""
        if self.agree:
            return []
        errors = self.kept.layers if self.kept else [error for error in self.errors if error.grows]
        return [node for error in errors for node in error.layer.nodes if node]

    @property
    def keep_lists(self) -> Dict[str, Any]:
        """The same nodes for each tool."""
        return keep_lists(self.to_keep, self.quantized)


def read_crops(folder: Path, config: PoseSpec, people: int) -> np.ndarray:
    """The first `people` rows of the bins, or as many as there are."""
    bins, number = BinReader(folder, config), 0
    rows: List[np.ndarray] = []
    while number < len(bins) and sum(len(part) for part in rows) < people:
        rows.append(bins.read(range(number, number + 1)))
        number += 1
    return np.concatenate(rows)[:people]


def compare_graphs(path_a: str, path_b: str, crops: np.ndarray, options: Options) -> LayerComparison:
    """Two ONNX files."""
    a, b = load_graph(path_a), load_graph(path_b)
    a, b = with_opset(a, opset_of(b), path_a), with_opset(b, opset_of(a), path_b)
    alignment = align(a, b, (path_a, path_b), (layer_values(a, crops, path_a), layer_values(b, crops, path_b)))
    compared = hold_against(a, b, alignment.pairs, (path_a, path_b), crops[:options.people], options)
    return dataclasses.replace(compared, alone=alignment.alone, alone_b=alignment.alone_b)


def layer_values(model: ModelProto, crops: np.ndarray, path: str) -> Values:
    """Of the first person, every layer's result, and what its casts and pairs make of that."""
    layers = find_layers(model)
    net = Net(model, [name for layer in layers for name in (layer.tensor, layer.passed)], path)
    return {name: values[:1] for name, values in net.run(crops[:1]).items() if name in net.types}


def compare_setting(path: str, setting: str, crops: np.ndarray, options: Options) -> LayerComparison:
    """One ONNX file in float32, and as a device computes it in float16 or int8."""
    a = load_graph(path)
    probe = Net(a, [layer.tensor for layer in find_layers(a)], path)
    if setting == FP16:
        b = emulate_float16(a, [name for name, kind in probe.types.items() if kind == TensorProto.FLOAT])
        pairs = {name: name for name in probe.types}
    else:
        batch, calibration = probe.batch or 1, crops[:options.calibrate]
        if len(calibration) < batch:
            raise UserError(f"{path}: takes batches of {batch}, but is to be calibrated on {len(calibration)} people. "
                            "Raise --calibrate, or give the .onnx without _bs")
        b = quantize_int8(a, calibration, batch, path)
        a = with_opset(a, opset_of(b), path)
        pairs = align(a, b, (path, "its int8 graph")).pairs
    compared = hold_against(a, b, pairs, (path, setting), crops[:options.people], options)
    compared.lower = b
    return compared


def hold_against(a: ModelProto, b: ModelProto, pairs: Dict[str, str], names: tuple, crops: np.ndarray,
                 options: Options) -> LayerComparison:
    """`pairs`: tensors of a -> of b. Where the output differs by more than its gate, the layers to keep are sought."""
    compared, pairs, types, batches = _run_both(a, b, pairs, names, crops, options)
    compared.quantized = any(node.op_type == "QuantizeLinear" for node in b.graph.node)
    if compared.first:
        compared.fault = fault_of_graphs(a, b, compared.first.layer, pairs, types[1], batches[0])
    if not compared.agree and options.budget and compared.output:
        compared.kept = choose_kept(compared.errors, Trials(a, b, pairs, types, batches, options.limits),
                                    options.budget)
    return compared


def _run_both(a: ModelProto, b: ModelProto, pairs: Dict[str, str], names: tuple, crops: np.ndarray,
              options: Options) -> Tuple[LayerComparison, Dict[str, str], Types, List[np.ndarray]]:
    """The comparison, and what trials need; the networks of this step, which hold all weights, end with it."""
    layers, outputs = find_layers(a), (a.graph.output[0].name, b.graph.output[0].name)
    types_a = Net(a, list(pairs.keys() - inputs_of(a)), names[0]).types
    net_b = Net(b, [*(theirs for mine, theirs in pairs.items() if mine not in inputs_of(a)), outputs[1]], names[1])
    pairs = {mine: theirs for mine, theirs in pairs.items() if mine in types_a and theirs in net_b.types}
    both, isolated = isolate(a, b, pairs, net_b.types)
    net_a = Net(both, [*isolated, outputs[0], *isolated.values()], f"{names[0]} with layers of {names[1]}")
    del both
    batches = in_batches(crops, common_batch(net_a, net_b) or PEOPLE_AT_ONCE)

    def read_b(rows: np.ndarray, start: int) -> Values:
        values = net_b.run(rows)
        return {**{mine: values[pairs[mine]] for mine in isolated}, OUTPUT_OF_B: values[outputs[1]]}

    compared = _measure(layers, net_a, read_b, isolated, (outputs[0], OUTPUT_OF_B), batches, names, options)
    return compared, pairs, (types_a, net_b.types), batches


def common_batch(a: Net, b: Net) -> Optional[int]:
    if None not in (a.batch, b.batch) and a.batch != b.batch:
        raise UserError(f"{a.name} has batch {a.batch}, {b.name} has {b.batch}. Export both with the same batch, or "
                        "both with a symbolic one")
    return a.batch or b.batch


def compare_dumps(path: str, folder: str, crops: np.ndarray, options: Options) -> LayerComparison:
    """An ONNX file and dumps of the same people, who are the first of the crops."""
    a = load_graph(path)
    layers, output = find_layers(a, fused=False), a.graph.output[0].name
    dumps = open_dumps(Path(folder), layers)
    people = min(len(next(iter(dumps.values()))), options.people)
    if people > len(crops):
        raise UserError(f"{folder}: dumps of {people} people, but there are bins of {len(crops)}")
    net = Net(a, [*dumps, output], path)
    batches = in_batches(crops[:people], net.batch or PEOPLE_AT_ONCE)

    def read_b(rows: np.ndarray, start: int) -> Values:
        return {name: np.asarray(values[start:start + len(rows)]) for name, values in dumps.items()}

    compared = _measure(layers, net, read_b, {}, (output, output), batches, (path, folder), options,
                        [layer for layer in layers if layer.tensor in dumps])
    fault = fault_of_dumps(a, compared.first.layer, dumps, batches[0]) if compared.first else None
    return dataclasses.replace(compared, alone=[layer for layer in layers if layer.tensor not in dumps], fault=fault)


def _measure(layers: List[Layer], net: Net, read_b: Any, isolated: Dict[str, str], outputs: tuple,
             batches: List[np.ndarray], names: tuple, options: Options,
             chosen: Optional[List[Layer]] = None) -> LayerComparison:
    if chosen is None:
        chosen = [layer for layer in layers if layer.tensor in isolated]
    errors, output = measure_layers(chosen, net, read_b, isolated, outputs, batches,
                                    (options.limits["atol"], options.limits["rtol"]))
    find_growth(errors, layers, options.layer_limit, options.growth)
    verdicts = judge(output, options.limits) if output else []
    return LayerComparison(names[0], names[1], sum(map(len, batches)), errors, output, verdicts, [], [])
