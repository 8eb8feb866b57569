"""A model of ncnn on disk: NAME.param, NAME.bin, and NAME.param.json, which says what they were made of.

The last is one JSON object: `bin_sha256`, so that files of two models are not mixed, `command`, and what the maker of
the files adds. Files of other makers come without it.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Sequence

from backends.ncnn.model_file import Layer, Weights, bin_of, format_bin, format_param
from contract.errors import UserError
from contract.files import PathLike, make_folder, read_json, remove_file, sha256_of_file, write_file, write_json

SUFFIX = ".json"  # appended to the name of the .param
DESCRIPTIVE = ("onnx", "float", "command")  # of the record: the same model may have another name


def param_path(model: PathLike) -> Path:
    """The .param of a model, of which the user may also name the .bin."""
    path = Path(model)
    if path.suffix not in (".param", ".bin"):
        raise UserError(f"{model}: expected ncnn's .param, with the .bin of the same name beside it. "
                        "python3 -m backends.ncnn.build makes both from an ONNX file")
    return path.with_suffix(".param")


def read_facts(param: Path) -> Dict[str, Any]:
    """What made the files, empty where nothing says. Raises UserError when the .bin is missing or not that of it."""
    weights = bin_of(param)
    for path in (param, weights):
        if not path.is_file():
            raise UserError(f"{path}: no such file. ncnn's models are a .param and the .bin of the same name beside it")
    record = os.fspath(param) + SUFFIX
    if not os.path.exists(record):
        return {}
    facts = read_json(record, "build record")
    if not isinstance(facts, dict) or facts.get("bin_sha256") != sha256_of_file(weights):
        raise UserError(f"{weights}: not the weights that {record} describes. Make the model again"
                        + (f": {facts['command']}" if isinstance(facts, dict) and "command" in facts else ""))
    return facts


def is_made(param: Path, facts: Dict[str, Any]) -> bool:
    """Whether the files are there, whole, and made of the same things in the same way; their names do not matter."""
    try:
        found = read_facts(param)
    except UserError:
        return False
    return all(found.get(key) == value for key, value in facts.items() if key not in DESCRIPTIVE)


def write_pair(param: Path, layers: Sequence[Layer], weights: Dict[str, Weights], facts: Dict[str, Any]) -> None:
    """Write the three files; the record last, so that a model without it is one that was interrupted."""
    make_folder(param.parent)
    remove_file(os.fspath(param) + SUFFIX)
    write_file(bin_of(param), format_bin(layers, weights))
    write_file(param, format_param(layers))
    write_json(os.fspath(param) + SUFFIX, {**facts, "bin_sha256": sha256_of_file(bin_of(param))})
