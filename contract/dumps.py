"""Dumps: what a backend leaves for each bin, where it may, and reading them, checked against the manifest.

A dump holds the heatmaps of its bin's people, (17, h, w) each, float32 or float16, in C order, under the bin's name
with `_0` (output number 0), as ais_bench writes it. A missing, extra, short or non-finite dump is an error.
"""
from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from contract.bins import BinReader
from contract.errors import UserError
from contract.files import PathLike, make_folder, read_json, write_json
from contract.manifest import Manifest, bins_in, remove_bins, settings_difference

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
    if not isinstance(settings, dict) or "bins" not in settings:
        raise UserError(f"{path}: not the settings that infer.py writes. Remove that file, or run the inference again")
    return settings


def claim_folder(output: Path, settings: Dict[str, Any], bins: BinReader, person_bytes: int, replace: bool) -> set:
    """Make the dumps' folder, or check that what it holds is of this run. Returns what `whole_dumps` does."""
    earlier = read_settings(output)
    difference = settings_difference(settings, earlier) if earlier else bins_in(output) and "nothing says which"
    if difference and not replace:
        raise UserError(f"{output}: holds dumps of another run ({difference}). Empty it, choose another "
                        "--output_dirname, or let --replace remove them")
    if difference:
        remove_bins(output, SETTINGS)
    make_folder(output)
    if difference or not earlier:  # processes that share the folder must not all write it
        write_json(output / SETTINGS, settings)
    return whole_dumps(output, bins, person_bytes)


def whole_dumps(output: Path, bins: BinReader, person_bytes: int) -> set:
    """Numbers of the bins that are done, that is, whose dump holds `person_bytes` a person."""
    found = bins_in(output)
    return {number for number, name in enumerate(bins.names)
            if found.get(dump_name(name)) == bins.rows[number] * person_bytes}


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
        self.shape = manifest.data_config.heatmap_shape
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
        self.dtype = next((dtype for dtype in DTYPES if found[self.names[0]] == self._bytes(0, dtype)), np.float32)
        for number, name in enumerate(self.names):
            if found[name] != self._bytes(number, self.dtype):
                rows, (joints, height, width) = manifest.rows(number), self.shape
                raise UserError(f"{os.path.join(folder, name)}: {found[name]} bytes, expected "
                                f"{self._bytes(number, self.dtype)} ({rows} x {joints} x {height} x {width} "
                                f"{np.dtype(self.dtype).name}). Run the inference again, or check --manifest")

    def read_all(self, numbers: range) -> np.ndarray:
        """The people of consecutive dumps: (rows, K, h, w) float32."""
        counts = [self.manifest.rows(number) for number in numbers]
        heatmaps = np.empty((sum(counts), *self.shape), np.float32)
        first = 0
        for number, rows in zip(numbers, counts):
            self.read(number, heatmaps[first:first + rows])
            first += rows
        return heatmaps

    def _bytes(self, number: int, dtype: type) -> int:
        return self.manifest.rows(number) * math.prod(self.shape) * np.dtype(dtype).itemsize

    def _read_settings(self) -> Optional[Dict[str, Any]]:
        """What made the dumps, if it is known; it must have read the bins of this manifest."""
        settings = read_settings(self.folder)
        if settings and settings["bins"] is not None:
            # A manifest that was rebuilt from detections knows no photographs; the people do not depend on the dtype.
            unseen = () if "photographs" in self.manifest.settings else ("photographs",)
            difference = settings_difference(self.manifest.settings, settings["bins"], but=("dtype", *unseen))
            if difference:
                raise UserError(f"{self.folder}: dumps of other bins than the manifest's ({difference})")
        return settings

    def read(self, number: int, out: np.ndarray) -> None:
        """Read dump `number` into `out`, (rows, K, h, w) float32 and contiguous. Raises UserError when a value is not
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
