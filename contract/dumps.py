"""Dumps: the files that a backend writes for each bin. Writing them, and reading them checked against the manifest.

A dump holds the model's output for each row of its bin, float32 or float16, in C order, under the bin's name with `_0`
(output number 0), as ais_bench writes it. A missing, extra, short or non-finite dump is an error.
"""
from __future__ import annotations

import glob
import hashlib
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from contract.bins import BinReader
from contract.errors import UserError
from contract.files import (
    PathLike,
    make_folder,
    read_json,
    remove_file,
    remove_leftovers,
    sha256_of_file,
    write_file,
    write_json,
)
from contract.locks import NAME, Lock, read_as_long_as
from contract.machine import MachineWatch
from contract.manifest import FORMAT, Manifest, bins_in, check_format, remove_bins, settings_difference
from contract.measures import is_measure
from contract.records import EMULATED, is_emulated, protect
from contract.run_record import RECORD, draw, list_of, merged, sealed
from contract.spec import KEYPOINT_VALUES, KEYPOINTS, Shape, first_of, outputs_of, row_bytes

SETTINGS = "settings.json"  # beside the dumps: what made them; infer.py writes it, ais_bench does not
DTYPES = (np.float32, np.float16)
MOST_NAMED = 5  # folders in an error
SMALLEST_PEAK, LARGEST_PEAK = 1e-12, 1e9  # the largest value of a dump lies between: 1 of a heatmap, 1e3 of boxes
Span = Tuple[int, float, float]  # people, and when their inference started and ended, in seconds of the epoch


def dump_name(bin_name: str) -> str:
    return bin_name[:-len(".bin")] + "_0.bin"


def find_dumps(folder: PathLike) -> Dict[str, Tuple[str, int]]:
    """Name of each dump -> where it is below `folder`, and its bytes.

    msame's names, ..._output_0.bin, are taken as well, and the folders that ais_bench leaves of several devices,
    device0 or device0_0. Raises UserError when two of them hold the same dump.
    """
    found: Dict[str, Tuple[str, int]] = {}
    for place in (Path(folder), *sorted(Path(folder).glob("device*"))):
        prefix = "" if place == Path(folder) else f"{place.name}/"
        for name, size in bins_in(place).items() if place.is_dir() else ():
            usual = re.sub(r"_output(_\d+\.bin)$", r"\1", name)
            if usual in found:
                raise UserError(f"{folder}: {prefix}{name} and {found[usual][0]} are dumps of the same bin. Keep those "
                                "of one run (ais_bench of 2024 needs --divide_input 1 to share bins among devices)")
            found[usual] = f"{prefix}{name}", size
    return found


def possible_forms(manifest: Manifest) -> List[Tuple[Shape, type]]:
    """Shape and dtype of a row of dumps if only the bins are known: the outputs of their model, or of
    one pass of it."""
    usual = first_of(manifest.tensors.outputs)
    one_pass = first_of(outputs_of(manifest.tensors, (usual[0], KEYPOINT_VALUES)))
    return [(shape, dtype) for shape in dict.fromkeys((usual, one_pass)) for dtype in DTYPES]


def _what_is_there(folder: PathLike) -> str:
    """Dumps in a format, in a folder or of names that are not read, and what to do about them."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if os.path.isdir(folder) else []
    files = [entry.name for entry in entries if entry.is_file() and entry.name not in (SETTINGS, NAME)]
    for suffix, advice in ((".npy", "python3 -c 'import numpy, sys; [numpy.load(name).tofile(name[:-3] + \"bin\") for "
                                    f"name in sys.argv[1:]]' {folder}/*.npy makes them of these, or run ais_bench with "
                                    "--outfmt BIN"),
                           (".txt", "Text is rounded: run ais_bench again with --outfmt BIN")):
        count = sum(name.endswith(suffix) for name in files)
        if count:
            return f"There are {count} {suffix} files, and dumps are .bin. {advice}"
    for place in (entry.path for entry in entries if entry.is_dir() and bins_in(entry.path)):
        return f"There are {len(bins_in(place))} .bin files in {place}. If they are the dumps, name that folder"
    return f"There are {len(files)} files of other names ({files[0]}, ...), and the dump of the bin NAME.bin is " \
        "NAME_0.bin" if files else ""


def folders_like(folder: PathLike) -> List[str]:
    """Folders with dumps near `folder`, which has none: beside it, and beside its parent. For an error message."""
    parent = Path(os.path.abspath(folder)).parent
    found = [inner for place in (parent, *parent.parent.glob("*")) if place.is_dir() and os.access(place, os.R_OK)
             for inner in place.glob("*/") if any(inner.glob("*_0.bin"))]
    return sorted({os.path.relpath(inner) for inner in found})


def read_settings(folder: PathLike) -> Optional[Dict[str, Any]]:
    """The settings that made the dumps of `folder`. None if they are not recorded: ais_bench records none."""
    path = Path(folder) / SETTINGS
    if not path.exists():
        return None
    settings = read_json(path, "settings")
    check_format(settings, path, "dumps", "bins")
    if not isinstance(settings, dict) or not {"bins", "outputs"} <= settings.keys():
        raise UserError(f"{path}: not the settings that infer.py writes. Remove that file, or run the inference again")
    return settings


def summary_of(folder: PathLike, part: str = "0/1") -> Path:
    """The file with the times of a folder of dumps, beside it, as ais_bench has it. `part` is K/N of a shared run."""
    number, parts = part.split("/")
    return Path(f"{folder}_summary.json" if parts == "1" else f"{folder}.part{number}of{parts}_summary.json")


def read_summary(path: Path) -> Dict[str, Any]:
    """What `DumpFolder.finish` has written. Raises UserError for what is none."""
    summary = read_json(path, "summary")
    try:
        end, rate = summary["end_to_end"], summary["throughput"]
        numbers = [*summary["npu_compute_time_list"], 0 if rate is None else rate]
        if end is not None:
            numbers += [rate, *(end[key] for key in ("people", "started", "seconds", "people_per_second"))]
        if not all(map(is_measure, numbers)):
            raise ValueError("a number that cannot have been measured")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a summary that infer.py writes ({type(error).__name__}: {error}). Remove it, and "
                        "run the same command again") from None
    return summary


class DumpFolder:
    """A folder that is being filled with the dumps of a folder of bins, the twin of BinFolder.

    Between `with` and its end no run with other settings works there; runs with the same may, each on its part.
    """

    def __init__(self, folder: Path, bins: BinReader, settings: Dict[str, Any], replace: bool = False,
                 dtype: Any = np.float32, part: str = "0/1"):
        """`settings` are what decides the numbers, `dtype` is that of the dumps: float32 or float16. `part` is K/N:
        this run is one of N, and does part K, from 0."""
        self.folder, self.bins, self.replace, self.part = folder, bins, replace, part
        outputs = settings.get("outputs", bins.spec.outputs)  # those of a one-pass model are not its bins'
        self.row_bytes = row_bytes(first_of(outputs), dtype)
        self.settings = {"format": FORMAT, **settings,
                         "outputs": {name: list(shape) for name, shape in outputs.items()}}
        self.summary_path = summary_of(folder, part)
        self.watch: Optional[MachineWatch] = None
        self.todo: List[range] = []  # what this run does, and digests of some of its bins and dumps
        self.inputs: Dict[int, str] = {}
        self.outputs: Dict[int, str] = {}

    def __enter__(self) -> DumpFolder:
        """Raises UserError when the folder holds dumps of another run, unless they are to be replaced, and when a run
        with other settings is at work there."""
        self._check_nothing_is_lost()
        self.lock = Lock(make_folder(self.folder))
        try:
            if self.lock.try_alone():
                self._claim()
            self.lock.share()
            difference = settings_difference(self.settings, read_settings(self.folder) or {})
            if difference:
                raise self.lock.refusal(f", on dumps of other settings ({difference})")
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self.lock.release()
        if self.watch:
            self.watch.end()

    def _difference(self) -> Optional[str]:
        """Why what the folder holds is of another run; None when it is of this one, or there is nothing."""
        earlier = read_settings(self.folder)
        return settings_difference(self.settings, earlier) if earlier else \
            "nothing says which" if bins_in(self.folder) else None

    def _check_nothing_is_lost(self) -> None:
        difference = self._difference()
        if difference and not self.replace:
            raise UserError(f"{self.folder}: holds dumps of another run ({difference}). Empty it, choose another "
                            "--output_dirname, or let --replace remove them")
        protect(self.folder, read_settings(self.folder) if difference else None, self.settings)

    def _claim(self) -> None:
        """Make the folder this run's, while no other run is there."""
        self._check_nothing_is_lost()
        if self._difference():
            remove_bins(self.folder, SETTINGS)
            for path in self.folder.parent.glob(f"{glob.escape(self.folder.name)}*_summary.json"):
                if path == summary_of(self.folder) or path.name.startswith(f"{self.folder.name}.part"):
                    remove_file(path)
        if not (self.folder / SETTINGS).exists():
            write_json(self.folder / SETTINGS, self.settings)
        remove_leftovers(summary_of(self.folder))

    def whole(self) -> set:
        """Numbers of the bins that are done: their dump is there and of the right size."""
        found = bins_in(self.folder)
        return {number for number, name in enumerate(self.bins.names)
                if found.get(dump_name(name)) == self._bytes(number)}

    def left(self, groups: List[range]) -> List[range]:
        """Those groups of bins that are not done."""
        whole = self.whole()
        return [group for group in groups if not whole.issuperset(group)]

    def earlier_summary(self, groups: List[range]) -> Optional[Dict[str, Any]]:
        """That of an earlier run which left none of `groups` to do. Any other is removed: it must not describe this
        run."""
        if not groups and self.summary_path.exists():
            print(f"{self.folder}: {len(self.bins)} dumps are there already, of the same model and bins")
            return read_summary(self.summary_path)
        remove_file(self.summary_path)
        return None

    def start(self, model: PathLike, groups: List[range], device: str = "") -> None:
        """What is timed starts now: `groups` of bins by `model`, on the `device` that the user has named."""
        self.model, self.todo = os.path.abspath(model), groups
        drawn = draw([number for group in groups for number in group])
        self.inputs = {number: sha256_of_file(self.bins.folder / self.bins.names[number]) for number in drawn}
        self.watch = MachineWatch(str(self.settings.get("device")), device)

    def write(self, group: range, outputs: np.ndarray) -> int:
        """Write the dumps of a group of bins, whose people `outputs` (N, ...) are; N is returned."""
        assert len(outputs) == self.bins.people(group), f"{len(outputs)} outputs of {self.bins.people(group)} people"
        first = 0
        for number in group:
            rows = self.bins.rows[number]
            self._write(number, outputs[first:first + rows])
            first += rows
        return first

    def _write(self, number: int, rows: np.ndarray) -> None:
        """Write the dump of a bin. Some are hashed as they come from the model."""
        write_file(self.folder / dump_name(self.bins.names[number]), rows)
        if number in self.inputs:
            self.outputs[number] = hashlib.sha256(rows.data).hexdigest()

    def collect(self, folder: Path) -> None:
        """Move the complete dumps of `folder` into this one."""
        found = bins_in(folder)
        for number, name in enumerate(map(dump_name, self.bins.names)):
            if found.get(name) == self._bytes(number):
                os.replace(folder / name, self.folder / name)

    def _bytes(self, number: int) -> int:
        return self.bins.rows[number] * self.row_bytes

    def finish(self, batch: int, times: List[List[float]], spans: List[Span]) -> Dict[str, Any]:
        """Write the summary of this run, or part, and return it. `times` has a list of milliseconds a batch for each
        device. `throughput` is ais_bench's: 1000 * batch / mean milliseconds of the model alone, padding counted as
        people; of several devices it is the sum."""
        throughput = sum(1000 * batch / float(np.mean(device)) for device in times if device)
        return self._write_summary([one for device in times for one in device], throughput, spans,
                                   self._record(batch, list(map(len, times))))

    def _record(self, batch: int, calls: List[int]) -> Dict[str, Any]:
        """The record of what was done since `start`, with the number of `calls` of each device. Dumps that another
        program has written are hashed as they lie there."""
        assert self.watch is not None  # `start` made it
        machine = self.watch.stop()
        names = {number: (self.bins.names[number], dump_name(self.bins.names[number])) for number in self.inputs}
        samples = [{"bin": name, "dump": dump, "input": self.inputs[number],
                    "output": self.outputs.get(number) or sha256_of_file(self.folder / dump)}
                   for number, (name, dump) in names.items()]
        people = list(map(self.bins.people, self.todo))
        return {"settings": self.settings, "model": self.model, "bins": os.path.abspath(self.bins.folder),
                "bins_list": list_of(self.bins.folder), "crops": sum(people), "of": sum(self.bins.rows),
                "files": sum(map(len, self.todo)), "batches": sum(-(-one // batch) for one in people), "calls": calls,
                "samples": samples, "machines": [machine]}

    def merge(self, parts: List[str]) -> Dict[str, Any]:
        """As `finish`, for a run whose work was done as `parts`, which have summaries of their own. Those of earlier
        versions have no record."""
        summaries = [read_summary(summary_of(self.folder, part)) for part in parts]
        records = [summary[RECORD] for summary in summaries if RECORD in summary]
        ends = [summary["end_to_end"] for summary in summaries if summary["end_to_end"]]
        return self._write_summary([one for summary in summaries for one in summary["npu_compute_time_list"]],
                                   sum(summary["throughput"] or 0 for summary in summaries),
                                   [(end["people"], end["started"], end["started"] + end["seconds"]) for end in ends],
                                   merged(records, self.watch.stop() if self.watch else None)
                                   if len(records) == len(parts) else None)

    def _write_summary(self, times: List[float], throughput: float, spans: List[Span],
                       record: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """The keys of ais_bench's summary, and what a person costs from file to file. After the last part of several
        the summary of all is written too."""
        folder, bins = self.folder, self.bins
        summary = sealed({
            "filesinfo": {str(number): {"infiles": [str(bins.folder / name)],
                                        "outfiles": [str(folder / dump_name(name))]}
                          for number, name in enumerate(bins.names)},
            "args": sys.argv,
            "NPU_compute_time": {"min": min(times), "max": max(times), "mean": float(np.mean(times)),
                                 "median": float(np.median(times)), "percentile(99%)": float(np.percentile(times, 99)),
                                 "count": len(times)} if times else None,
            "throughput": throughput or None,
            "npu_compute_time_list": times,
            "pid": os.getpid(),
            "end_to_end": _end_to_end(spans),
            EMULATED: is_emulated(self.settings),
            RECORD: record,
        })
        write_json(self.summary_path, summary)
        count = int(self.part.split("/")[1])
        parts = [f"{number}/{count}" for number in range(count)]
        if count > 1 and all(summary_of(folder, part).exists() for part in parts):
            DumpFolder(folder, bins, self.settings).merge(parts)
        return summary


def _end_to_end(spans: List[Span]) -> Optional[Dict[str, float]]:
    """From the first one's start to the last one's end. None when nobody was left to do, or when another program's
    start and end were heard at once, as on a busy machine."""
    people = sum(span[0] for span in spans)
    started = min((span[1] for span in spans), default=0.0)
    seconds = max((span[2] for span in spans), default=0.0) - started
    if not people or seconds <= 0:
        return None
    return {"people": people, "started": started, "seconds": seconds, "people_per_second": people / seconds}


def describe_speed(summary: Dict[str, Any], batch: int, outputs: Mapping[str, Shape]) -> str:
    """A line for the user. A row of a one-pass model is a person, and not one of two crops."""
    end, unit = summary["end_to_end"], "people" if KEYPOINTS in outputs else "crops"
    if end is None and not summary["throughput"]:  # the run before was stopped between its last dump and its summary
        return "every dump was there already, so nothing was timed"
    if end is None:
        return f"model alone {summary['throughput']:.1f} {unit}/s at batch {batch}; reading and writing were not timed"
    return (f"model alone {summary['throughput']:.1f} {unit}/s at batch {batch}; read, infer and write "
            f"{end['people_per_second']:.1f} {unit}/s, {end['people']} in {end['seconds']:.1f} s")


def _looks_like_output(values: np.ndarray) -> bool:
    """By its finite values; NaN is of no concern here, since negative integers look like NaN and NaN like those."""
    with np.errstate(all="ignore"):
        sizes = np.abs(values.astype(np.float64))
    largest = sizes[np.isfinite(sizes)].max(initial=0)
    return bool(largest == 0 or SMALLEST_PEAK < largest < LARGEST_PEAK)


class DumpReader:
    """The dumps of one folder, all of them there and of the right size. No other run replaces them as long as the
    reader lives, or until its `lock` is released."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder, self.manifest, self.lock = folder, manifest, read_as_long_as(self, folder)
        places = find_dumps(folder)
        usual = [dump_name(name) for name in manifest.bin_names]
        missing = [name for name in usual if name not in places]
        if missing:
            near = [] if places else folders_like(folder)
            advice = f"There are dumps in {', '.join(near[:MOST_NAMED])}: name the right folder" if near else \
                "Run the inference again"
            there = "" if places.keys() & set(usual) else _what_is_there(folder)
            raise UserError(f"{folder}: {len(missing)} of {len(usual)} dumps are missing ({missing[0]}, ...). "
                            f"{there or advice}")
        extra = sorted(places.keys() - set(usual))
        if any(re.sub(r"_[1-9]\d*\.bin$", "_0.bin", name) in usual for name in extra):
            raise UserError(f"{folder}: holds dumps of several outputs ({extra[0]}, ...), expected those of the one "
                            "output of a pose model. Move the others away if the first is right")
        if extra:
            raise UserError(f"{folder}: {len(extra)} dumps more than the manifest's {len(usual)} "
                            f"({extra[0]}, ...). Is the --manifest that of these dumps?")
        self.names = [places[name][0] for name in usual]  # below the folder, in the order of the bins
        found = dict(places.values())
        self.settings = self._read_settings()
        self.shape, self.dtype = self._form(found[self.names[0]])
        for number, name in enumerate(self.names):
            if found[name] != self._bytes(number, self.dtype):
                shape = " x ".join(map(str, (manifest.rows(number), *self.shape)))
                raise UserError(f"{os.path.join(folder, name)}: {found[name]} bytes, expected "
                                f"{self._bytes(number, self.dtype)} ({shape} "
                                f"{np.dtype(self.dtype).name}). Run the inference again, or check --manifest")
        self._check_values()

    def _check_values(self) -> None:
        """Of the first dump: numbers of another kind look like an output when they are read as that kind alone."""
        path, size = os.path.join(self.folder, self.names[0]), np.dtype(self.dtype).itemsize
        with open(path, "rb") as file:
            content = file.read()
        kinds = {"": f"<f{size}", "big-endian": f">f{size}", "integers": f"<i{size}"}
        values = {name: np.frombuffer(content, kind) for name, kind in kinds.items()}
        likely = [name for name, read in values.items()
                  if _looks_like_output(read) and (not name or np.isfinite(read).all())]
        if likely and likely[0]:
            raise UserError(f"{path}: its values are not those of an output. Are they {' or '.join(likely)}? Write "
                            "little-endian float32 or float16 (numpy's astype('<f4').tofile)")

    def read_all(self, numbers: range) -> np.ndarray:
        """The rows of consecutive dumps, (rows, *shape) float32, such as (rows, K, h, w)."""
        counts = [self.manifest.rows(number) for number in numbers]
        values = np.empty((sum(counts), *self.shape), np.float32)
        first = 0
        for number, rows in zip(numbers, counts):
            self.read(number, values[first:first + rows])
            first += rows
        return values

    def _form(self, size: int) -> Tuple[Shape, type]:
        """Shape of a row and dtype, by the bytes of the first dump. ais_bench leaves no settings, and then the dumps
        may be those of a one-pass model."""
        forms = [(first_of(self.settings["outputs"]), dtype) for dtype in DTYPES] if self.settings else \
            possible_forms(self.manifest)
        return next((form for form in forms if size == self.manifest.rows(0) * row_bytes(*form)), forms[0])

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
            suspicious = not np.isfinite(values.sum(axis=(0, 1), dtype=np.float32)).all()  # without a large array
        broken = int((~np.isfinite(values)).sum()) if suspicious else 0
        if broken:
            raise UserError(f"{path}: {broken} of {values.size} values are NaN or infinite. Did the model overflow "
                            "in float16?")
        if values is not out:
            out[:] = values
