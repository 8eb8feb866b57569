"""A comparison of layers as text, as plain values for a file, and as the files of --output."""
from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from comparison.limits import Verdict, number
from contract.files import make_folder, remove_file, write_file, write_json
from contract.tables import format_table
from layers.comparison import LayerComparison
from layers.measure import LayerError
from layers.reproduction import write_reproduction

COLUMNS = ["layer", "type", "shape", "cosine", "relative distance", "of its input", "growth", "isolated", "max abs",
           "largest value", "effect on the output", ""]
KEEP_DTYPE, TABLE, VALUES, LOWER, MIXED = "keep_dtype.txt", "layers.md", "layers.json", "lower.onnx", "kept.onnx"
REPRODUCTION = "reproduction"


def format_layers(compared: LayerComparison) -> str:
    parts = [f"{compared.b} against {compared.a}, {compared.people} people",
             format_table(COLUMNS, [_row(error, error is compared.first) for error in compared.errors])]
    for name, layers in ((compared.a, compared.alone), (compared.b, compared.alone_b)):
        if layers:
            shown = ", ".join(f"{layer.name} ({layer.kind})" for layer in layers[:8])
            parts.append(f"{len(layers)} layers of {name} were not compared: {shown}{', ...' if layers[8:] else ''}")
    if compared.verdicts:
        parts.append(format_gate(compared.verdicts))
    parts.append(describe_first(compared))
    if compared.fault:
        parts.append(compared.fault.sentence)
    if not compared.agree:
        parts.append(describe_kept(compared))
    parts.append(f"verdict: {compared.b} {'agrees with' if compared.agree else 'DIFFERS from'} {compared.a}")
    return "\n\n".join(parts)


def _row(error: LayerError, is_first: bool) -> List[str]:
    note = "error grows here first" if is_first else "error grows" if error.grows else ""
    if error.other_shape:
        note = f"{_shape(error.other_shape)} in the other, {note}".rstrip(", ")
    if error.not_finite:
        note = f"{error.not_finite} values not finite, {note}".rstrip(", ")
    return [error.layer.name, error.layer.kind, _shape(error.shape), f"{error.cosine:.7f}",
            *(_short(value) for value in (error.distance, error.input, error.growth, error.isolated, error.max_abs,
                                          error.largest, error.effect)), note]


def _shape(shape: Tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}"


def format_gate(verdicts: List[Verdict]) -> str:
    return format_table(["limit of the output", "value", "", "bound", "kept"], [
        [verdict.limit, number(verdict.value), verdict.sense, number(verdict.bound), verdict.answer]
        for verdict in verdicts])


def describe_first(compared: LayerComparison) -> str:
    first = compared.first
    if first is None:
        return "the error grows beyond the limit at no layer"
    own = "" if first.isolated is None else f", {_short(first.isolated)} of its own"
    return (f"the error grows first at {first.layer.name} ({first.layer.kind}): relative distance "
            f"{_short(first.distance)} from {_short(first.input)} of its input{own}")


def describe_kept(compared: LayerComparison) -> str:
    lists = compared.keep_lists
    if compared.fault and compared.fault.is_another:
        return "more bits do not help: the layer is another" + (
            f". With {', '.join(lists['nodes_to_exclude'])} as in A, run so: {_describe_run(compared)}"
            if compared.kept else "")
    if not lists["nodes_to_exclude"]:
        return "no layers to keep were found"
    head = "layers to keep in higher precision" + (
        f", run so: {_describe_run(compared)}" if compared.kept else
        ": those where the error grows; not verified by a run")
    atc = (f"python3 -m ascend.atc --extra=--keep_dtype=FILE, and this is the file:\n\n"
           f"{_indented(lists['keep_dtype'])}\n\n") if lists["keep_dtype"] else ""
    converter = "quantization" if compared.quantized else "autocast"
    return (f"{head}\n\n{atc}TensorRT up to 10, trtexec:\n\n    {lists['trtexec']}\n\n"
            f"TensorRT 11, python -m modelopt.onnx.{converter}:\n\n    {lists['modelopt']}\n\n"
            f"onnxruntime.quantization:\n\n    nodes_to_exclude={lists['nodes_to_exclude']!r}")


def _describe_run(compared: LayerComparison) -> str:
    """What the output is with the layers to keep as they are in A."""
    assert compared.output is not None and compared.kept is not None  # the trials began with it
    before, after = (output["tensors"]["normal"].RelativeEuclideanDistance
                     for output in (compared.output, compared.kept.output))
    enough = "the output then passes" if compared.kept.passes else "not enough: the output still does not pass"
    return (f"relative distance of the output {_short(before)} -> {_short(after)}; {enough}\n\n"
            f"{format_gate(compared.kept.verdicts)}")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def describe(compared: LayerComparison, settings: Dict[str, Any]) -> Dict[str, Any]:
    """Everything as plain values; what is not finite is None, which JSON can say."""
    layers = [{"node": error.layer.name, "nodes": error.layer.nodes, "type": error.layer.kind,
               "tensor": error.layer.tensor,
               **{field.name: getattr(error, field.name) for field in dataclasses.fields(error)
                  if field.name != "layer"}, "growth": error.growth} for error in compared.errors]
    first = compared.first
    return finite({
        "agree": compared.agree, "a": compared.a, "b": compared.b, "people": compared.people, "settings": settings,
        "first": first.layer.name if first else None,
        "fault": compared.fault and {"what": compared.fault.what, "proven": compared.fault.left is not None,
                                     "left": compared.fault.left},
        "layers": layers, "gate": list(map(dataclasses.asdict, compared.verdicts)),
        "not_compared": {"a": [layer.name for layer in compared.alone],
                         "b": [layer.name for layer in compared.alone_b]},
        "output": _output(compared.output),
        "keep": {**compared.keep_lists, "verified": compared.kept is not None and compared.kept.passes,
                 "gate": list(map(dataclasses.asdict, compared.kept.verdicts)) if compared.kept else None,
                 "output": _output(compared.kept.output) if compared.kept else None}})


def _output(measured: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    if measured is None:
        return None
    return {**dataclasses.asdict(measured["tensors"]["normal"]), **dataclasses.asdict(measured["heatmaps"]["normal"])}


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_layers(folder: Path, compared: LayerComparison, settings: Dict[str, Any]) -> None:
    """The table, everything as JSON, atc's file, the graphs that were made and the reproduction of the first layer;
    what does not apply is not left over from an earlier run."""
    make_folder(folder)
    write_file(folder / TABLE, (format_layers(compared) + "\n").encode())
    write_json(folder / VALUES, describe(compared, settings))
    write_reproduction(folder / REPRODUCTION, compared.fault)
    another = compared.fault and compared.fault.is_another
    contents = {KEEP_DTYPE: b"" if another else compared.keep_lists["keep_dtype"].encode(),
                LOWER: compared.lower.SerializeToString() if compared.lower else b"",
                MIXED: compared.kept.model.SerializeToString() if compared.kept else b""}
    for name, content in contents.items():
        if content:
            write_file(folder / name, content)
        else:
            remove_file(folder / name)
