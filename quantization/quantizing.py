"""From a float network and crops to its int8 file: calibrate, choose a method, correct, choose what stays float."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper

from contract.errors import UserError, note
from contract.export import DECODING_NODES
from contract.files import PathLike
from contract.onnx_file import only_input, write_origin
from contract.progress import Progress
from contract.ranges import Range
from layers.graphs import load_graph
from quantization.calibrate import calibrate, dead_tensors
from quantization.crops import FEW, Source, batches, few_of, share_out
from quantization.decision import Decision
from quantization.evaluation import Change, Validation, mean_cosine
from quantization.graph import Graph, prepare
from quantization.keep import choose_kept
from quantization.memory import Memory
from quantization.qdq import FORMS, WEIGHTED, layers_of, to_qdq
from quantization.running import Network, least_ms, open_batch
from quantization.search import Found, Goal, search
from quantization.trials import Trials

MOST_NAMED = 4  # of tensors or layers in a note
SAVED_EVERY = 512  # bins or photos of the calibration


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
             sha256: Mapping[str, str], memory: Memory) -> Quantized:
    """`open_validation(infer)` gives the people to judge on, float32 being `infer`; None for the few crops that int8 is
    tried on. Nothing is written but `memory`, with which a run that was stopped continues."""
    given = load_graph(path)
    check_model(given, source, path)
    model = prepare(given, path)
    graph, form = Graph(model), FORMS[options.form]
    fixed, kept = (choose_kept(graph, form, words) for words in (options.fixed, options.keep or ()))
    calibrated, tried = share_out(source, options.people)
    ranges = collect(model, source, calibrated, path, memory)
    trials = Trials(model, options.form, ranges, np.concatenate(list(batches(source, tried, None))), path, fixed,
                    memory)
    tell_unusual(trials)
    methods = {options.method: 0.0} if options.method else trials.methods(kept)
    method = min(methods, key=lambda one: methods[one])
    trials.correct(method, batches(source, Progress(few_of(calibrated), unit="bin", desc="correcting"), None))
    validation = open_validation(Network(model.SerializeToString(), path).infer)

    def measure(layers: Mapping[str, str]) -> Dict[str, Any]:
        infer = trials.network(trials.decide(method, layers)).infer
        return dataclasses.asdict(validation.judge(infer) if validation else
                                  Change(len(trials.rows), mean_cosine(trials.expected, infer(trials.rows))))

    def judge(layers: Mapping[str, str]) -> Change:
        return Change(**memory.once(f"change with {' '.join(sorted(layers))} kept", measure, layers))

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


def check_model(model: ModelProto, source: Source, path: PathLike) -> None:
    """Refuse what int8 is not made of: one-pass models, float16, and bins that are another model's."""
    if any(node.name.startswith(DECODING_NODES) for node in model.graph.node):
        raise UserError(f"{path}: finds the joints itself, which stays float. Quantise the file that gives heatmaps, "
                        "and make one pass of the result: pth2onnx.py CFG NAME_int8.onnx NAME_int8.onnx --one_pass")
    if any(weight.data_type == TensorProto.FLOAT16 for weight in model.graph.initializer):
        raise UserError(f"{path}: is float16. Give the float32 file that it was made from")
    takes = helper.tensor_dtype_to_np_dtype(only_input(model, path).type.tensor_type.elem_type)
    if takes != source.spec.dtype:
        raise UserError(f"{path}: takes {takes} bins, but those of {source.folder} are {source.spec.dtype}. Make "
                        f"others with preprocess.py --dtype {takes}, or give the model for these")


def collect(model: ModelProto, source: Source, numbers: List[int], path: PathLike, memory: Memory) -> Dict[str, Range]:
    people = sum(source.rows[number] for number in numbers)
    if people < FEW:
        note(f"{source.folder}: {people} crops to calibrate on. With fewer than {FEW} the ranges are those of a few "
             "people, and others are cut off: give more")
    done, saved = memory.found.get("ranges", (0, {}))
    ranges = {name: Range.load(one) for name, one in saved.items()}
    with Progress(total=people, unit="crop", desc="calibrating") as bar:
        bar.update(sum(source.rows[number] for number in numbers[:done]))

        def counted(part: List[int]) -> Any:
            for rows in batches(source, part, open_batch(model)):
                yield rows
                bar.update(len(rows))

        for start in range(done, len(numbers), SAVED_EVERY):
            part = numbers[start:start + SAVED_EVERY]
            ranges = calibrate(model, counted(part), path, ranges)
            memory.keep("ranges", (start + len(part), {name: one.save() for name, one in ranges.items()}))
    return ranges


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
