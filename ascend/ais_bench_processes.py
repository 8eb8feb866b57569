"""The processes of ais_bench, one per device: what each does, what it prints, and what it leaves."""
from __future__ import annotations

import math
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from ascend.cann import PYTHON
from ascend.codes import explain_output
from contract.bins import BinReader, share_of
from contract.dumps import dump_name
from contract.errors import UserError
from contract.files import PathLike, make_folder, read_json, write_file
from contract.measures import is_measure
from contract.progress import Progress
from contract.workers import describe_exit, run_together

DEFAULT_DEVICE = "0"  # of ais_bench
# In its output. Progress lines end in \r, and a line of its C++ part may follow one without an end.
_PROGRESS = re.compile(r"Processing: +\d+%\|[^|]*\| (\d+)/\d+")
_WARMED_UP, _SUMMARY = re.compile(r"warm up \d+ done"), re.compile(r"-Performance Summary-")
_MEAN = re.compile(r"NPU_compute_time \(ms\): (?:min = \S+, max = \S+, )?mean = ([^,\s]+)")
_COMPLAINT = re.compile(r"^.*?(?:\[ERROR\] *|\b\w*(?:Error|Exception): )(\S.*)$", re.MULTILINE)


class Share(NamedTuple):
    """What one device does: the bins of a folder into `output`/`name`."""

    device: str
    bins: Path
    numbers: List[int]
    output: Path
    name: str

    @property
    def dumps(self) -> Path:
        return self.output / self.name


def share_dumps(device: str) -> str:
    """Where in the parts the dumps of a device are."""
    return f"device{device}/dumps"


def share_out(bins: BinReader, groups: List[range], devices: List[str], parts: Path) -> List[Share]:
    """A folder of bins for each device, made of hard links, with whole batches in it."""
    devices = devices[:len(groups)]
    shares = []
    for place, device in enumerate(devices):
        own = share_of(groups, place, len(devices))
        dumps = parts / share_dumps(device)
        share = Share(device, make_folder(dumps.with_name("bins")), [number for group in own for number in group],
                      dumps.parent, dumps.name)
        for number in share.numbers:
            _link(bins.folder / bins.names[number], share.bins / bins.names[number])
        shares.append(share)
    return shares


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def ais_bench_command(model: str, share: Share, batch: int, gears: bool) -> List[str]:
    command = [PYTHON, "-m", "ais_bench", "--model", model, "--input", str(share.bins), "--output",
               str(share.output), "--output_dirname", share.name, "--batchsize", str(batch)]
    command += ["--dymBatch", str(batch)] if gears else []
    return command + (["--device", share.device] if share.device != DEFAULT_DEVICE else [])


class Watch:
    """What one ais_bench prints: kept, its progress shown, and the times noted between which it works on bins."""

    def __init__(self, bar: Any, people: List[int]):
        self.bar, self.people = bar, people  # people done after each run
        self.text, self.runs = "", 0
        self.started, self.ended = 0.0, 0.0  # not yet

    def hear(self, text: str) -> None:
        start, now = max(0, len(self.text) - 200), time.time()  # a line may come in two pieces
        self.text += text
        recent = self.text[start:]
        if not self.started and _WARMED_UP.search(recent):
            self.started = now
        if not self.ended and _SUMMARY.search(recent):
            self.ended = now
        done = max([self.runs, *map(int, _PROGRESS.findall(recent))])
        self.bar.update(self.people[min(done, len(self.people) - 1)] - self.people[self.runs])
        self.runs = min(done, len(self.people) - 1)

    def complaint(self) -> str:
        """Why it failed: its own words, and the meaning of the codes in them."""
        words = [match.strip() for match in _COMPLAINT.findall(self.text)]
        return ". ".join([*words[:1], *(word for word in words[-1:] if word not in words[:1]),
                          *explain_output(self.text)]) or "it printed no error"


def run_shares(model: str, shares: List[Share], bins: BinReader, batch: int, gears: bool) -> Dict[str, Watch]:
    """Run an ais_bench for each share at once; by device, what was seen of it. Raises UserError when one fails."""
    people = {share.device: _people_after(bins, share.numbers, batch) for share in shares}
    commands = {share.device: ais_bench_command(model, share, batch, gears) for share in shares}
    for command in commands.values():
        print(" ".join(command), flush=True)
    start = time.time()
    with Progress(total=sum(counts[-1] for counts in people.values()), unit="person", desc="ais_bench") as bar:
        watches = {device: Watch(bar, counts) for device, counts in people.items()}
        try:
            codes = run_together(commands, lambda device, text: watches[device].hear(text),
                                 env={**os.environ, "PYTHONUNBUFFERED": "1"})
        finally:
            for share in shares:
                write_file(log_of(share), watches[share.device].text.encode())
    failed = [share for share in shares if codes[share.device]]
    if failed:
        reasons = "; ".join(f"ais_bench on device {share.device} {describe_exit(codes[share.device])}: "
                            f"{watches[share.device].complaint()} (all it printed is in {log_of(share)})"
                            for share in failed)
        raise UserError(f"{reasons}. Complete dumps are kept: run the same command again for the rest")
    for watch in watches.values():  # an ais_bench whose lines are others
        watch.started, watch.ended = watch.started or start, watch.ended or time.time()
    return watches


def log_of(share: Share) -> Path:
    return Path(f"{share.dumps}_ais_bench.log")


def _people_after(bins: BinReader, numbers: List[int], batch: int) -> List[int]:
    """People done after each run of ais_bench: 0, batch, 2 batch, ..., all."""
    people = sum(bins.rows[number] for number in numbers)
    return [*range(0, people, batch), people]


def read_times(share: Share, watch: Watch) -> List[float]:
    """Milliseconds of each run, from the summary or else from what was printed; checks the names of the dumps."""
    path = Path(f"{share.dumps}_summary.json")
    if not path.exists():
        mean = _MEAN.search(watch.text)
        if mean is None:
            raise UserError(f"ais_bench on device {share.device} left neither {path} nor a line NPU_compute_time. "
                            f"Read {log_of(share)}")
        return _checked([_number(mean.group(1))] * (len(watch.people) - 1), log_of(share))
    summary = read_json(path, "summary")
    try:
        for files in summary["filesinfo"].values():
            expected = [dump_name(os.path.basename(name)) for name in files["infiles"]]
            if [os.path.basename(name) for name in files["outfiles"]] != expected:
                raise UserError(f"{path}: ais_bench wrote {files['outfiles']} for {files['infiles']}, expected names "
                                "with _0. Does the model have one output?")
        return _checked(summary["npu_compute_time_list"], path)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a summary that ais_bench writes ({type(error).__name__}: {error}). Run it "
                        "again") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _checked(times: List[float], where: PathLike) -> List[float]:
    """Milliseconds. Raises UserError for what is none: a mean of them would be NaN, or too good."""
    if not isinstance(times, list) or not all(map(is_measure, times)):
        raise UserError(f"{where}: npu_compute_time holds {times!r:.80}, expected milliseconds of at least 0. Run it "
                        "again")
    return times
