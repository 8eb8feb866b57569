"""The manifest beside a folder of bins: what each of their rows is, so that no later stage opens a photo.

A stage writes bins, `000000000007.bin`: one row, or `batch` of them, in C order. A backend (ais_bench, or `infer.py`)
turns each into a dump, `000000000007_0.bin`, of as many rows. What a row is, a person's crop or something else, is said
by columns that the stages name.
"""
from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PathLike, read_json, remove_file, write_file
from contract.pixels import DTYPES
from contract.spec import Tensors, row_bytes

if TYPE_CHECKING:
    from contract.spec import Spec

FORMAT = 2  # of the manifest and of the settings beside dumps; 1 said nothing of itself
MANIFEST = "manifest.json"  # ais_bench reads *.bin and *.npy of a folder and leaves this alone
UNFINISHED = "manifest.unfinished.json"  # its name until every bin is there
LARGEST_SIZE = 2 ** 24  # of a batch and of each side of a shape
SETTING_KEYS = ("config", "input_shape", "dtype", "outputs", "batch", "mirrored")


@dataclasses.dataclass
class Manifest:
    """`settings`: what bins must share to be mixed, SETTING_KEYS and what the stage adds, in JSON's types. `columns`:
    by name, (N, ...) of all rows, which `manifest[name]` gives."""

    settings: Dict[str, Any]
    columns: Dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    @property
    def batch(self) -> int:
        return self.settings["batch"]

    @property
    def tensors(self) -> Tensors:
        """Shapes of a row in bins and in dumps."""
        return Tensors(tuple(self.settings["input_shape"]), self.settings["dtype"],
                       {name: tuple(shape) for name, shape in self.settings["outputs"].items()})

    @property
    def bin_names(self) -> List[str]:
        return [f"{index:012d}.bin" for index in range(-(-len(self) // self.batch))]

    def rows(self, name_index: int) -> int:
        """Rows in bin number `name_index`: `batch`, or fewer in the last."""
        return min(self.batch, len(self) - name_index * self.batch)

    def chunks(self, rows: int) -> List[range]:
        """Numbers of consecutive bins, about `rows` rows at a time."""
        files, at_once = len(self.bin_names), max(1, rows // self.batch)
        return [range(start, min(start + at_once, files)) for start in range(0, files, at_once)]

    def rows_of(self, numbers: range) -> slice:
        """The rows, among all, of consecutive bins."""
        return slice(numbers[0] * self.batch, min((numbers[-1] + 1) * self.batch, len(self)))

    def bin_bytes(self, name_index: int) -> int:
        return self.rows(name_index) * row_bytes(self.settings["input_shape"], self.settings["dtype"])

    def of_rows(self, rows: slice) -> Manifest:
        return Manifest(self.settings, {name: values[rows] for name, values in self.columns.items()})

    def mirrored(self) -> Manifest:
        return dataclasses.replace(self, settings={**self.settings, "mirrored": True})


def settings_of(spec: Spec, batch: int, **more: Any) -> Dict[str, Any]:
    """The settings of bins for a model; `more` are the stage's own."""
    return {"format": FORMAT, "config": spec.of_data(), "input_shape": list(spec.input_shape), "dtype": spec.dtype,
            "outputs": {name: list(shape) for name, shape in spec.outputs.items()}, "batch": batch, "mirrored": False,
            **more}


def save_manifest(folder: PathLike, manifest: Manifest, name: str = MANIFEST) -> None:
    """Write it as JSON with one row per line, so that text tools can find a row."""
    columns = manifest.columns
    rows = [json.dumps(dict(zip(columns, row))) for row in zip(*(values.tolist() for values in columns.values()))]
    dtypes = {column: values.dtype.name for column, values in columns.items()}
    head = json.dumps({**manifest.settings, "columns": dtypes})[:-1]
    write_file(Path(folder) / name, (head + ', "rows": [\n' + ",\n".join(rows) + "\n]}\n").encode())


def load_manifest(path: PathLike) -> Manifest:
    """Read a manifest file. Raises UserError when it is not one."""
    content = read_json(path, "manifest")
    check_format(content, path, "bins", "people")
    try:
        rows, dtypes = content.pop("rows"), content.pop("columns")
        # Through numpy's own error: a row that lacks a column, or holds a list of another length, is no manifest.
        columns = {name: np.array([row[name] for row in rows], dtype) for name, dtype in dtypes.items()}
        manifest = Manifest(content, columns)
        _check_values(manifest)
    except (AttributeError, IndexError, KeyError, OverflowError, StopIteration, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a manifest that preprocess.py wrote ({type(error).__name__}: {error}). "
                        "Name the --manifest that it wrote, or remove this file and run it again") from None
    return manifest


def _check_values(manifest: Manifest) -> None:
    """Raises ValueError for what no stage writes; NaN and Infinity, which JSON's readers take, would score."""
    missing = [key for key in SETTING_KEYS if key not in manifest.settings]
    if missing or not len(manifest):
        raise ValueError(f"{missing[0]} is missing" if missing else "no rows")
    tensors, batch = manifest.tensors, manifest.batch
    sizes = [size for shape in (tensors.input_shape, *tensors.outputs.values()) for size in shape]
    if not all(type(size) is int and 0 < size <= LARGEST_SIZE for size in (batch, *sizes)):
        raise ValueError(f"batch {batch!r:.40} and shapes {sizes!r:.80}, expected whole numbers from 1")
    if tensors.dtype not in DTYPES or type(manifest.settings["mirrored"]) is not bool:
        raise ValueError(f"dtype {tensors.dtype!r:.40}, mirrored {manifest.settings['mirrored']!r:.40}")
    for name, values in manifest.columns.items():
        if values.dtype.kind not in "if" or not np.isfinite(values).all():
            row = np.argmin(np.isfinite(values.reshape(len(values), -1)).all(axis=1)) if values.dtype.kind == "f" else 0
            raise ValueError(f"row {row}: {name} is {values[row]!s:.80}, expected finite numbers")


def check_format(content: Any, path: PathLike, what: str, first_key: str) -> None:
    """Raises UserError for the record beside `what` that another version of this project wrote; `first_key` tells a
    record of format 1, which has no number."""
    found = content.get("format", 1 if first_key in content else FORMAT) if isinstance(content, dict) else FORMAT
    if found != FORMAT:
        raise UserError(f"{path}: of format {found}, which another version of this project wrote; expected {FORMAT}. "
                        f"Make the {what} again with --replace")


def settings_difference(ours: Dict[str, Any], theirs: Dict[str, Any], but: Tuple[str, ...] = ()) -> Optional[str]:
    """The first setting that differs, in words; None when all agree. Keys in `but` may differ."""
    for key in sorted((ours.keys() | theirs.keys()) - set(but)):
        if ours.get(key) != theirs.get(key):
            return f"{key} was {json.dumps(theirs.get(key))}, now {json.dumps(ours.get(key))}"
    return None


def bins_in(folder: PathLike) -> Dict[str, int]:
    """Name -> bytes of every .bin in `folder`; empty when there is no such folder. Links to nowhere are no files."""
    found: Dict[str, int] = {}
    for entry in os.scandir(folder) if os.path.isdir(folder) else ():
        if entry.name.endswith(".bin"):
            with contextlib.suppress(FileNotFoundError):
                found[entry.name] = entry.stat().st_size
    return found


def remove_bins(folder: PathLike, *records: str) -> None:
    """Remove every .bin of `folder`, then the files that say what they are."""
    for name in [*bins_in(folder), *records]:
        remove_file(Path(folder) / name)
