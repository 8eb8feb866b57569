"""The record of a timed run, in the summary beside its dumps, and what it is compared with before a speed is shown.

It holds the settings of the run, which model file and bins it read, the SHA-256 of some of its inputs and outputs (as
MLPerf's TEST01 compares those of the timed run), how many crops it did in how many batches, and what the machine did
meanwhile. The bins and dumps that are hashed are drawn at random when the run starts. `seal` is a checksum of the
figures and the record: it tells a summary that was edited, not one that was written again by this code.
"""
from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any, Dict, List, Optional

from contract.errors import UserError
from contract.files import sha256_of_file, sha256_of_rows
from contract.machine import host
from contract.manifest import bins_in, settings_difference
from contract.onnx_file import sha256_of_model

RECORD, SEAL = "record", "seal"
SAMPLED = 16  # bins of a run whose input and output are hashed
MOST_OTHERS = 0.1  # of the CPUs' time, to other processes: more is said beside the figure
CLOCK_PART, CLOCK_SECONDS = 0.01, 0.5  # how far the clock may move against the one that nobody can set
CLOSE = 1e-6  # of two ways to add up the same numbers


def draw(numbers: List[int]) -> List[int]:
    """Which bins of a run are hashed; nobody knows beforehand."""
    return sorted(random.SystemRandom().sample(numbers, min(SAMPLED, len(numbers))))


def list_of(folder: Path) -> str:
    """Digest of names and sizes of a folder's bins."""
    return sha256_of_rows(sorted(bins_in(folder).items()))


def sealed(summary: Dict[str, Any]) -> Dict[str, Any]:
    return {**summary, SEAL: seal_of(summary)}


def seal_of(summary: Dict[str, Any]) -> str:
    """Of all but the seal itself and the list of files, which is long and no figure."""
    content = {key: value for key, value in summary.items() if key not in (SEAL, "filesinfo")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def merged(records: List[Dict[str, Any]], machine: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """One record of a run's parts. `machine` is what their parent process has watched: for each of them the others are
    a load."""
    machines = [one for record in records for one in record["machines"]]
    if machine:
        machines = [{**machine, "gpus": [gpu for one in machines for gpu in one["gpus"]]}]
    return {**records[0], "machines": machines,
            **{key: sum(record[key] for record in records) for key in ("crops", "files", "batches")},
            **{key: [one for record in records for one in record[key]] for key in ("calls", "samples")}}


def find_mismatch(folder: Path, summary: Any, settings: Dict[str, Any]) -> Optional[str]:
    """In words, the first thing that keeps a summary from being that of the run which made the dumps of `folder`, whose
    `settings` these are. None where all agrees. The model file and the bins are looked at where they still exist, on
    the machine of the run."""
    try:
        if not summary.get(RECORD):
            return "it has no record of the run, as those of earlier versions. Run the inference again with --replace"
        record = summary[RECORD]
        return wrong_run(summary, settings) or _wrong_figures(summary, record) or wrong_outputs(folder, summary) or \
            _wrong_files(record)
    except PermissionError:  # another user's model or bins, which come last
        return None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        return f"its record is none that this project writes ({type(error).__name__}: {error})"


def wrong_run(summary: Dict[str, Any], settings: Dict[str, Any]) -> Optional[str]:
    """In words, how its seal or its settings tell that a summary with a record is not that of a run with these
    `settings`; None where they do not."""
    if summary.get(SEAL) != seal_of(summary):
        return "it was changed after the run"
    difference = settings_difference(settings, summary[RECORD]["settings"])
    if difference:
        return f"it belongs to a run with other settings ({difference})"
    return None


def wrong_clock(record: Dict[str, Any]) -> Optional[str]:
    """In words, that a clock was set during the run; None where none was."""
    for machine in record["machines"]:
        moved = abs(machine["ended"] - machine["started"] - machine["monotonic_s"])
        if moved > CLOCK_SECONDS + CLOCK_PART * machine["monotonic_s"]:
            return f"the clock of the machine was moved by {moved:.1f} s during the run"
    return None


def _wrong_figures(summary: Dict[str, Any], record: Dict[str, Any]) -> Optional[str]:
    """Figures that do not follow from the times, and times that no run of this record can have."""
    moved = wrong_clock(record)
    if moved:
        return moved
    times, calls, batch = summary["npu_compute_time_list"], record["calls"], record["settings"]["batch"]
    if not sum(calls) == len(times) == record["batches"]:
        return f"it has times of {len(times)} batches, and the run did {record['batches']}"
    rate, first = 0.0, 0
    for count in calls:
        rate += 1000 * batch / (sum(times[first:first + count]) / count) if count else 0
        first += count
    if not _same(rate, summary["throughput"] or 0):
        return f"its times make {rate:.1f} a second in the model, and it says {summary['throughput'] or 0:.1f}"
    return _wrong_end(summary["end_to_end"], record)


def _wrong_end(end: Optional[Dict[str, float]], record: Dict[str, Any]) -> Optional[str]:
    if end is None:
        return None
    if end["people"] != record["crops"]:
        return f"it counts {end['people']} crops, and the run did {record['crops']}"
    if not _same(end["people"] / end["seconds"], end["people_per_second"]):
        return f"{end['people']} crops in {end['seconds']:.3g} s are not {end['people_per_second']:.1f} a second"
    started = min(machine["started"] for machine in record["machines"])
    ended = max(machine["ended"] for machine in record["machines"])
    if end["started"] < started - CLOCK_SECONDS or end["started"] + end["seconds"] > ended + CLOCK_SECONDS:
        return "its crops were not timed within the run"
    return None


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=CLOSE)


def wrong_outputs(folder: Path, summary: Dict[str, Any]) -> Optional[str]:
    """In words, how the dumps of `folder` are not those of the timed run; None where they are."""
    record, samples = summary[RECORD], summary[RECORD]["samples"]
    if len(samples) < min(SAMPLED, record["files"]):
        return f"{len(samples)} of its outputs are hashed, expected {min(SAMPLED, record['files'])}"
    if len({one["input"] for one in samples}) > 1 and len({one["output"] for one in samples}) == 1:
        return f"its run gave the same output for {len(samples)} different inputs"
    for one in samples:
        if not _is_file(folder / one["dump"], one["output"]):
            return f"{one['dump']} is not what the timed run gave"
    return None


def _wrong_files(record: Dict[str, Any]) -> Optional[str]:
    if any(machine["host"] != host() for machine in record["machines"]):
        return None
    model, bins = Path(record["model"]), Path(record["bins"])
    if model.is_file() and _sha256_of_model(model) != record["settings"]["model_sha256"]:
        return f"{model} is another model than the run's"
    if not bins_in(bins):
        return None
    if list_of(bins) != record["bins_list"]:
        return f"{bins} holds other bins than the run's"
    for one in record["samples"]:
        if not _is_file(bins / one["bin"], one["input"]):
            return f"{bins / one['bin']} is another bin than the run's"
    return None


def _is_file(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of_file(path) == digest


def _sha256_of_model(path: Path) -> Optional[str]:
    try:
        return sha256_of_model(path)
    except UserError:  # a file of its weights is gone
        return None


def remarks(summaries: List[Any]) -> List[str]:
    """What a reader of the speed of one or two folders must know, in a few words each. Empty for a whole run of a CPU
    that it had for itself."""
    records = [summary.get(RECORD) for summary in summaries]
    if None in records:
        return ["no record"]
    machines = [machine for record in records for machine in record["machines"]]
    others = max((machine["busy_with_others"] or 0 for machine in machines), default=0)
    crops, total = (sum(record[key] for record in records) for key in ("crops", "of"))
    gpus = [gpu for machine in machines for gpu in machine["gpus"]]
    joules = sum((one["cpu_joules"] or 0) + sum(gpu["joules"] or 0 for gpu in one["gpus"]) for one in machines)
    return [*([f"{100 * others:.0f} % busy with others"] if others > MOST_OTHERS else []),
            *([f"timed {crops} of {total}"] if crops < total else []), *_clock_words(gpus),
            *([f"{joules / crops:.2f} J per crop"] if joules and crops else [])]


def _clock_words(gpus: List[Dict[str, Any]]) -> List[str]:
    """One remark for all GPUs of a run."""
    clocks = [clock for gpu in gpus for clock in gpu["clock_mhz"]]
    if not clocks:
        return ["clocks unknown"] if gpus else []
    span = " to ".join(f"{clock:.0f}" for clock in sorted({min(clocks), max(clocks)}))
    limits = dict.fromkeys(limit for gpu in gpus for limit in gpu["held_down_by"])
    word = "locked" if all(gpu["locked"] for gpu in gpus) else "not locked"
    return [", ".join([f"clocks {word}, {span} MHz", *limits])]
