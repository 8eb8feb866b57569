"""Dumps: what a backend leaves for each bin, where it may, and reading them, checked against the manifest.

A dump holds the model's output for each row of its bin, float32 or float16, in C order, under the bin's name with `_0`
(output number 0), as ais_bench writes it. A missing, extra, short or non-finite dump is an error.
"""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from contract.bins import BinReader
from contract.errors import UserError
from contract.files import PathLike, make_folder, read_json, write_json
from contract.manifest import FORMAT, Manifest, bins_in, check_format, remove_bins, settings_difference
from contract.spec import Shape, row_bytes

SETTINGS = "settings.json"  # beside the dumps: what made them; infer.py writes it, ais_bench does not
DTYPES = (np.float32, np.float16)
Span = Tuple[int, float, float]  # people, and when their inference started and ended, in seconds of the epoch


def dump_name(bin_name: str) -> str:
    return bin_name[:-len(".bin")] + "_0.bin"


def read_settings(folder: PathLike) -> Optional[Dict[str, Any]]:
    """What made the dumps of `folder`; None where nothing says, as ais_bench does not."""
    path = Path(folder) / SETTINGS
    if not path.exists():
        return None
    settings = read_json(path, "settings")
    check_format(settings, path, "dumps", "bins")
    if not isinstance(settings, dict) or not {"bins", "outputs"} <= settings.keys():
        raise UserError(f"{path}: not the settings that infer.py writes. Remove that file, or run the inference again")
    return settings


class DumpFolder:
    """A folder that is being filled with the dumps of a folder of bins, the twin of BinFolder."""

    def __init__(self, folder: Path, bins: BinReader, settings: Dict[str, Any], replace: bool = False,
                 dtype: Any = np.float32):
        """`settings` are what decides the numbers, `dtype` is that of the dumps: float32 or float16.

        Raises UserError when the folder holds dumps of another run, unless they are to be replaced.
        """
        self.folder, self.bins = folder, bins
        self.row_bytes = row_bytes(next(iter(bins.spec.outputs.values())), dtype)
        self.settings = {"format": FORMAT, "outputs": {name: list(shape) for name, shape in bins.spec.outputs.items()},
                         **settings}
        try:
            earlier = self._check()
        except UserError:
            if not replace:
                raise
            remove_bins(folder, SETTINGS)
            earlier = None
        make_folder(folder)
        if earlier is None:  # processes that share the folder must not all write it
            write_json(folder / SETTINGS, self.settings)

    def _check(self) -> Optional[Dict[str, Any]]:
        """The settings that are there already, which must be these."""
        earlier = read_settings(self.folder)
        difference = settings_difference(self.settings, earlier) if earlier else \
            bins_in(self.folder) and "nothing says which"
        if difference:
            raise UserError(f"{self.folder}: holds dumps of another run ({difference}). Empty it, choose another "
                            "--output_dirname, or let --replace remove them")
        return earlier

    def whole(self) -> set:
        """Numbers of the bins that are done: their dump is there and of the right size."""
        found = bins_in(self.folder)
        return {number for number, name in enumerate(self.bins.names)
                if found.get(dump_name(name)) == self._bytes(number)}

    def left(self, groups: List[range]) -> List[range]:
        """Those groups of bins that are not done."""
        whole = self.whole()
        return [group for group in groups if not whole.issuperset(group)]

    def collect(self, folder: Path) -> None:
        """Move the dumps of `folder` that are whole into this one."""
        found = bins_in(folder)
        for number, name in enumerate(map(dump_name, self.bins.names)):
            if found.get(name) == self._bytes(number):
                os.replace(folder / name, self.folder / name)

    def _bytes(self, number: int) -> int:
        return self.bins.rows[number] * self.row_bytes


def summarize(bins: BinReader, output: Path, batch: int, times: List[List[float]], spans: List[Span]) -> Dict[str, Any]:
    """The keys of ais_bench's summary, and what a person costs from file to file.

    `times` has a list of milliseconds a batch for each device. `throughput` is ais_bench's: 1000 * batch / mean
    milliseconds of the model alone, padding counted as people; of several devices it is the sum.
    """
    every = [milliseconds for device in times for milliseconds in device]
    return {
        "filesinfo": {str(number): {"infiles": [str(bins.folder / name)], "outfiles": [str(output / dump_name(name))]}
                      for number, name in enumerate(bins.names)},
        "args": sys.argv,
        "NPU_compute_time": {"min": min(every), "max": max(every), "mean": float(np.mean(every)),
                             "median": float(np.median(every)), "percentile(99%)": float(np.percentile(every, 99)),
                             "count": len(every)} if every else None,
        "throughput": sum(1000 * batch / float(np.mean(device)) for device in times if device) or None,
        "npu_compute_time_list": every,
        "pid": os.getpid(),
        "end_to_end": _end_to_end(spans),
    }


def _end_to_end(spans: List[Span]) -> Optional[Dict[str, float]]:
    """From the first one's start to the last one's end; None when nobody was left to do."""
    people = sum(span[0] for span in spans)
    if not people:
        return None
    started = min(span[1] for span in spans)
    seconds = max(span[2] for span in spans) - started
    return {"people": people, "started": started, "seconds": seconds, "people_per_second": people / seconds}


def describe_speed(summary: Dict[str, Any], batch: int) -> str:
    end = summary["end_to_end"]
    if end is None:  # the run before this one was stopped between its last dump and its summary
        return "every dump was there already, so nothing was timed"
    return (f"model alone {summary['throughput']:.1f} crops/s at batch {batch}; read, infer and write "
            f"{end['people_per_second']:.1f} crops/s, {end['people']} in {end['seconds']:.1f} s")


class DumpReader:
    """The dumps of one folder, all of them there and of the right size."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder, self.manifest = folder, manifest
        self.names = [dump_name(name) for name in manifest.bin_names]
        found = bins_in(folder)
        missing = [name for name in self.names if name not in found]
        if missing:
            raise UserError(f"{folder}: {len(missing)} of {len(self.names)} dumps are missing ({missing[0]}, ...). "
                            "Run the inference again")
        extra = sorted(found.keys() - set(self.names))
        if extra:
            raise UserError(f"{folder}: {len(extra)} dumps more than the manifest's {len(self.names)} "
                            f"({extra[0]}, ...). Is the --manifest that of these dumps?")
        self.settings = self._read_settings()
        outputs = (self.settings or manifest.settings)["outputs"]  # ais_bench leaves no settings
        self.shape: Shape = tuple(next(iter(outputs.values())))
        self.dtype = next((dtype for dtype in DTYPES if found[self.names[0]] == self._bytes(0, dtype)), np.float32)
        for number, name in enumerate(self.names):
            if found[name] != self._bytes(number, self.dtype):
                shape = " x ".join(map(str, (manifest.rows(number), *self.shape)))
                raise UserError(f"{os.path.join(folder, name)}: {found[name]} bytes, expected "
                                f"{self._bytes(number, self.dtype)} ({shape} "
                                f"{np.dtype(self.dtype).name}). Run the inference again, or check --manifest")

    def read_all(self, numbers: range) -> np.ndarray:
        """The rows of consecutive dumps, (rows, *shape) float32, such as (rows, K, h, w)."""
        counts = [self.manifest.rows(number) for number in numbers]
        values = np.empty((sum(counts), *self.shape), np.float32)
        first = 0
        for number, rows in zip(numbers, counts):
            self.read(number, values[first:first + rows])
            first += rows
        return values

    def _bytes(self, number: int, dtype: type) -> int:
        return self.manifest.rows(number) * row_bytes(self.shape, dtype)

    def _read_settings(self) -> Optional[Dict[str, Any]]:
        """What made the dumps, if it is known; it must have read the bins of this manifest."""
        settings = read_settings(self.folder)
        if settings and settings["bins"] is not None:
            # A manifest that was rebuilt from detections has seen no photo; the rows do not depend on the dtype.
            unseen = {"photographs", "opencv"} - self.manifest.settings.keys()
            difference = settings_difference(self.manifest.settings, settings["bins"],
                                             but=("dtype", "input_shape", *unseen))
            if difference:
                raise UserError(f"{self.folder}: dumps of other bins than the manifest's ({difference})")
        return settings

    def read(self, number: int, out: np.ndarray) -> None:
        """Read dump `number` into `out`, (rows, *shape) float32 and contiguous. Raises UserError when a value is not
        finite."""
        path = os.path.join(self.folder, self.names[number])
        values = out if self.dtype == np.float32 else np.empty(out.shape, self.dtype)
        with open(path, "rb") as file:
            came = file.readinto(values.data.cast("B"))
        if came != values.nbytes:
            raise UserError(f"{path}: {came} bytes, expected {values.nbytes}. Is something still writing it?")
        with np.errstate(all="ignore"):
            suspicious = not np.isfinite(values.sum(dtype=np.float32))  # one pass, and no array of booleans
        broken = int((~np.isfinite(values)).sum()) if suspicious else 0
        if broken:
            raise UserError(f"{path}: {broken} of {values.size} values are NaN or infinite. Did the model overflow "
                            "in float16?")
        if values is not out:
            out[:] = values
