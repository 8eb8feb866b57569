"""Writing and reading folders of bins: only missing bins are written, and only complete ones are read."""
from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Dict, List, Optional, TypeVar, Union

import numpy as np

from contract.arguments import DEFAULT_CONFIG
from contract.errors import UserError
from contract.files import PathLike, make_folder, remove_file, sha256_of_rows, write_file
from contract.locks import read_as_long_as
from contract.manifest import (
    MANIFEST,
    UNFINISHED,
    Manifest,
    bins_in,
    load_manifest,
    remove_bins,
    save_manifest,
    settings_difference,
)
from contract.pixels import FLOAT32
from contract.spec import Tensors, load_spec, row_bytes

if TYPE_CHECKING:
    from contract.spec import Spec

Item = TypeVar("Item")
LARGEST_VALUE = 1e4  # more than any crop holds: normalised it is about 1


class BinFolder:
    """A folder that is being filled with the bins of one manifest. The manifest gets its name when it is complete."""

    def __init__(self, folder: Path, manifest: Manifest, replace: bool = False):
        """Raises UserError when the folder holds bins of other settings, unless they are to be replaced."""
        self.folder, self.manifest = make_folder(folder), manifest
        try:
            self.missing = self._check()
        except UserError:
            if not replace:
                raise
            remove_bins(folder, MANIFEST, UNFINISHED)
            self.missing = self._check()

    def _check(self) -> List[int]:
        """Numbers of the bins that are not there yet."""
        folder, manifest = self.folder, self.manifest
        found = bins_in(folder)
        earlier = next((folder / name for name in (MANIFEST, UNFINISHED) if (folder / name).exists()), None)
        difference = earlier and settings_difference(manifest.settings, load_manifest(earlier).settings)
        if difference:
            raise UserError(f"{folder}: holds bins of another run ({difference}). Empty it, choose another "
                            "folder, or let --replace remove them")
        unknown = sorted(found.keys() - set(manifest.bin_names)) if earlier else sorted(found)
        if unknown:
            raise UserError(f"{folder}: holds {len(unknown)} bins that are not of this run ({unknown[0]}, ...). "
                            "Empty it, choose another folder, or let --replace remove them")
        return [number for number, name in enumerate(manifest.bin_names)
                if found.get(name) != manifest.bin_bytes(number)]

    def open(self) -> None:
        save_manifest(self.folder, self.manifest, UNFINISHED)
        remove_file(self.folder / MANIFEST)

    def close(self) -> None:
        if (self.folder / UNFINISHED).exists():
            os.replace(self.folder / UNFINISHED, self.folder / MANIFEST)
        else:  # every bin was there already
            save_manifest(self.folder, self.manifest)


class RowWriter:
    """Takes rows of bins in any order and from any thread; writes a bin when its last row has come."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder, self.manifest, self.names = folder, manifest, manifest.bin_names
        self.incomplete: Dict[int, Dict[int, np.ndarray]] = {}
        self.lock = Lock()

    def put(self, row: int, tensor: np.ndarray) -> None:
        number = row // self.manifest.batch
        with self.lock:
            rows = self.incomplete.setdefault(number, {})
            rows[row] = tensor
            if len(rows) < self.manifest.rows(number):
                return
            del self.incomplete[number]
        write_file(self.folder / self.names[number], *(rows[row] for row in sorted(rows)))


class BinReader:
    """The bins of a folder, in the order of their names. All exist and have the right size. No other run can replace
    them as long as the reader exists.

    With a manifest beside them they must be its bins, made for `spec`; without one their order is ais_bench's, and
    their dtype that of `spec`. Where there is a manifest, `spec` may be None. The `spec` of a reader has the dtype of
    its bins.
    """

    def __init__(self, folder: Path, spec: Optional[Spec]):
        self.folder = folder
        read_as_long_as(self, folder)
        self.manifest = load_manifest(folder / MANIFEST) if (folder / MANIFEST).exists() else None
        self.spec = self._spec_of_bins(spec)
        self.bytes_each = row_bytes(self.spec.input_shape, self.spec.dtype)
        found = bins_in(folder)
        if self.manifest is None and (folder / UNFINISHED).exists():
            raise UserError(f"{folder}: preprocess.py has not finished there. Run it again, it continues")
        if not found:
            raise UserError(f"{folder}: no .bin files. Run preprocess.py first, or name another --input")
        if self.manifest:
            self._check_names(self.manifest, found)
        self.names = self.manifest.bin_names if self.manifest else sorted(found, key=natural_order)
        self.rows = [self._rows(number, found[name]) for number, name in enumerate(self.names)]
        self._check_values()

    def __len__(self) -> int:
        return len(self.names)

    def origin(self) -> Dict[str, Any]:
        """What the bins are, for the settings of their dumps: the manifest's settings as `bins`; where there is none,
        a digest of names, sizes and times as `files`."""
        if self.manifest:
            return {"bins": self.manifest.settings}
        states = [(name, os.stat(self.folder / name)) for name in self.names]
        return {"bins": None, "files": sha256_of_rows((name, state.st_size, state.st_mtime_ns)
                                                      for name, state in states)}

    def _spec_of_bins(self, spec: Optional[Spec]) -> Union[Spec, Tensors]:
        if self.manifest is None:
            if spec is None:
                raise UserError(f"{self.folder}: no {MANIFEST}, which says what its bins are. Give the --cfg of the "
                                "model, or run preprocess.py")
            return spec
        if spec is None:
            return self.manifest.tensors
        difference = settings_difference(spec.of_data(), self.manifest.settings["config"])
        if difference:
            raise UserError(f"{self.folder}: bins of another --cfg ({difference})")
        return dataclasses.replace(spec, dtype=self.manifest.settings["dtype"])  # type: ignore[type-var]

    def _check_names(self, manifest: Manifest, found: Dict[str, int]) -> None:
        for what, names in (("missing", set(manifest.bin_names) - found.keys()),
                            ("not in the manifest", found.keys() - set(manifest.bin_names))):
            if names:
                raise UserError(f"{self.folder}: {len(names)} bins are {what} ({min(names)}, ...). "
                                "Run preprocess.py again")

    def _check_values(self) -> None:
        """Of the first bin: numbers of another kind are told by their size, which is beyond any crop's, or NaN."""
        if self.spec.dtype != FLOAT32:
            return
        with np.errstate(invalid="ignore"):
            fits = (np.abs(self.read(range(1))) < LARGEST_VALUE).all()
        if not fits:
            raise UserError(f"{self.folder / self.names[0]}: its values are not those of a crop: some are NaN or "
                            f"beyond {LARGEST_VALUE:g}. Is it float64 or big-endian? Write little-endian float32 "
                            "(numpy's astype('<f4').tofile)")

    def _rows(self, number: int, size: int) -> int:
        rows = self.manifest.rows(number) if self.manifest else max(1, size // self.bytes_each)
        if size != rows * self.bytes_each:
            people = f"{rows} x " if rows > 1 else ""
            if self.spec.dtype == FLOAT32 and size == 2 * rows * self.bytes_each:
                raise UserError(f"{self.folder / self.names[number]}: {size} bytes, twice what was expected. Is it "
                                "float64? Write float32 (numpy's astype('<f4').tofile)")
            raise UserError(f"{self.folder / self.names[number]}: {size} bytes, expected {rows * self.bytes_each} "
                            f"({people}{'x'.join(map(str, self.spec.input_shape))} {self.spec.dtype}). Was it written "
                            "with another --cfg? Bins of bytes need the manifest.json that was written with them")
        return rows

    def groups(self, batch: int) -> List[range]:
        """Numbers of consecutive bins that together hold at most `batch` people, or one bin that holds more."""
        groups, start, people = [], 0, 0
        for number, rows in enumerate(self.rows):
            if number > start and people + rows > batch:
                groups.append(range(start, number))
                start, people = number, 0
            people += rows
        return [*groups, range(start, len(self.rows))]

    def people(self, group: range) -> int:
        return sum(self.rows[number] for number in group)

    def read(self, group: range, into: Optional[np.ndarray] = None) -> np.ndarray:
        """The rows of consecutive bins: (rows, 3, H, W) float32, or (rows, H, W, 3) uint8; `into` an array of these."""
        rows = into if into is not None else np.empty((self.people(group), *self.spec.input_shape), self.spec.dtype)
        first = 0
        for number in group:
            part = rows[first:first + self.rows[number]]
            with open(self.folder / self.names[number], "rb", buffering=0) as file:
                if file.readinto(part.reshape(-1).view(np.uint8).data) < part.nbytes:
                    raise UserError(f"{self.folder / self.names[number]}: is shorter than it was a moment ago. Run "
                                    "preprocess.py again")
            first += self.rows[number]
        return rows


def open_bins(folder: Path, cfg: Optional[PathLike]) -> BinReader:
    """The bins of a folder, for the model of a config file. None is what the manifest says, which needs no config, and
    DEFAULT_CONFIG for bins without a manifest."""
    if cfg is None and (folder / MANIFEST).exists():
        return BinReader(folder, None)
    return BinReader(folder, load_spec(cfg or DEFAULT_CONFIG))


def share_of(groups: List[Item], number: int, shares: int) -> List[Item]:
    """Share `number`, from 0, of things that are cut into `shares` runs of nearly the same length."""
    return groups[len(groups) * number // shares:len(groups) * (number + 1) // shares]


def spread(bins: Any, people: int) -> List[int]:
    """Numbers of bins, evenly spread over the folder, that together hold about `people` people. `bins` may be anything
    with a length and the counts `rows`."""
    count = min(len(bins), -(-people * len(bins) // sum(bins.rows)))
    return [number * len(bins) // count for number in range(count)]


def natural_order(name: str) -> List[tuple]:
    """Sort key that compares runs of digits as numbers, as ais_bench orders a folder's files."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name)]
