"""From a float network and crops to its int8 file: calibrate, choose a method, correct, choose what stays float."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np
from onnx import ModelProto

from contract.errors import UserError, note
from contract.files import PathLike
from contract.onnx_file import write_origin
from contract.progress import Progress
from contract.ranges import Range
from layers.graphs import load_graph
from quantization.calibrate import calibrate, dead_tensors
from quantization.crops import FEW, Source, batches, share_out
from quantization.decision import Decision
from quantization.evaluation import Change, Validation, mean_cosine
from quantization.graph import Graph, prepare
from quantization.keep import choose_kept
from quantization.qdq import FORMS, WEIGHTED, layers_of, to_qdq
from quantization.running import Network, least_ms, open_batch
from quantization.search import Found, Goal, search
from quantization.trials import Trials

MOST_NAMED = 4  # of tensors or layers in a note


@dataclasses.dataclass(frozen=True)
class Options:
    """`people` to calibrate on; `method` None takes the one that changes the output least; `keep` names layers and
    words, None has them measured and takes those that reach `goal`; `fixed` are words whose layers stay float in any
    case; `form` is one of quantization.qdq.FORMS."""

    people: int
    method: Optional[str]
    keep: Optional[List[str]]
    fixed: Sequence[str]
    form: str
    goal: Goal


@dataclasses.dataclass
class Quantized:
    """`model` is the int8 file's; `methods` tried -> distance of the output; `change` as far as it was measured, on
    `judged`; `float_ms` and `int8_ms` of a crop in ONNX Runtime on this CPU."""

    model: ModelProto
    decision: Decision
    layers: int
    methods: Dict[str, float]
    found: Optional[Found]
    change: Change
    judged: str
    float_ms: float
    int8_ms: float


def quantize(path: PathLike, source: Source, options: Options, open_validation: Callable[..., Optional[Validation]],
             sha256: Mapping[str, str]) -> Quantized:
    """`open_validation(infer)` gives the people to judge on, float32 being `infer`; None for the few crops that int8 is
    tried on. Nothing is written."""
    model = prepare(load_graph(path), path)
    calibrated, tried = share_out(source, options.people)
    ranges = collect(model, source, calibrated, path)
    graph, form = Graph(model), FORMS[options.form]
    trials = Trials(model, options.form, ranges, np.concatenate(list(batches(source, tried, None))), path,
                    choose_kept(graph, form, options.fixed))
    tell_unusual(trials)
    kept = choose_kept(graph, form, options.keep or ())
    methods = {options.method: 0.0} if options.method else trials.methods(kept)
    method = min(methods, key=lambda one: methods[one])
    trials.correct(method)
    validation = open_validation(Network(model.SerializeToString(), path).infer)

    def judge(layers: Mapping[str, str]) -> Change:
        infer = trials.network(trials.decide(method, layers)).infer
        return validation.judge(infer) if validation else \
            Change(len(trials.rows), mean_cosine(trials.expected, infer(trials.rows)))

    found = None
    if options.keep is None:
        found = search(trials, method, options.goal, judge)
        kept = found.kept
    decision = dataclasses.replace(trials.decide(method, kept), sha256=dict(sha256))
    decision.bias = {name: values for name, values in decision.bias.items() if name not in decision.kept}
    quantized = to_qdq(model, decision, options.form)
    write_origin(quantized, {"int8_of": decision.sha256["model"], "method": method})
    times = [least_ms(one.SerializeToString(), trials.rows, path) for one in (model, quantized)]
    return Quantized(quantized, decision, len(layers_of(graph, form)), {} if options.method else methods, found,
                     found.chosen.change if found else judge(kept),
                     str(validation.bins.folder) if validation else f"{len(trials.rows)} of the calibration's crops",
                     *times)


def collect(model: ModelProto, source: Source, numbers: List[int], path: PathLike) -> Dict[str, Range]:
    people = sum(source.rows[number] for number in numbers)
    if people < FEW:
        note(f"{source.folder}: {people} crops to calibrate on. With fewer than {FEW} the ranges are those of a few "
             "people, and others are cut off: give more")
    with Progress(total=people, unit="crop", desc="calibrating") as bar:
        def counted() -> Any:
            for rows in batches(source, numbers, open_batch(model)):
                yield rows
                bar.update(len(rows))

        return calibrate(model, counted(), path)


def tell_unusual(trials: Trials) -> None:
    """What is as it should not be, or stays float because the form has no int8 for it."""
    dead = dead_tensors(trials.ranges)
    if dead:
        note(f"{trials.path}: {len(dead)} tensors are 0 on every crop ({_some(dead)}), and 0 in int8 whatever "
             "comes")
    able = {layer.name for layer in trials.layers} | set(trials.fixed)
    others: Dict[str, List[str]] = {}
    for node in trials.model.graph.node:
        if node.op_type in WEIGHTED and node.name not in able:
            others.setdefault(node.op_type, []).append(node.name)
    for op_type, names in others.items():
        note(f"{trials.path}: {len(names)} {op_type} stay float ({_some(names)}): --target {trials.form} has no "
             "int8 for them, or their weights are no constants")


def _some(names: List[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


def output_of(model: PathLike) -> Path:
    """NAME_int8.onnx beside NAME.onnx."""
    path = Path(model)
    if path.suffix != ".onnx":
        raise UserError(f"{model}: expected the float32 .onnx of a network")
    return path.with_name(f"{path.stem}_int8.onnx")
