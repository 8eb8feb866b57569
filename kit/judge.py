"""Judging what came back from servers: hashes, scores, and whether each result agrees with this machine's CPU."""
from __future__ import annotations

from contract.script import ROOT

import argparse
import dataclasses
import json
import os
import secrets
import shutil
import time
import typing
from pathlib import Path
from typing import Any, Dict, List, Optional

from contract.errors import DIFFERS, DONE, UserError, note
from contract.files import make_folder, read_json, sha256_of_file, write_file
from contract.pixels import UINT8
from contract.records import is_emulated
from contract.tables import mark
from jobs.job import Job
from jobs.plan import plan, postprocess
from jobs.runner import at_work
from jobs.tables import results_table
from jobs.targets import room_of
from jobs.validation import comparison, forget_verdicts
from kit import server
from kit.archive import read_one, read_sums, unpack
from kit.packing import CPU, RECORDS
from pose.result_table import NOTHING

RUNS, JUDGED = Path("runs"), "judged"  # where work folders are, from the project's root; what they keep results in
TAKEN = ("judge", "dataroot", "annotations", "work", "quiet")  # options that go with --judge
REPORTED = {"kit", "target", "runner", "complete", "code", "made"}
DAY = 86400  # seconds
LAST_LINES = 3  # of a log, that an error shows


@dataclasses.dataclass(frozen=True)
class Pair:
    """A run on a server, as if it had been run in the folder of its results, and the same here on the CPU."""

    job: Job
    reference: Job
    tar: Path

    @property
    def agrees(self) -> bool:
        return read_json(self.job.verdict, "verdict")["agree"]


def judge(args: argparse.Namespace) -> int:
    os.chdir(ROOT)
    pairs = [pair for tar in args.judge for pair in open_results(tar, args)]
    forget_verdicts([pair.job for pair in pairs])
    for pair in pairs:
        with at_work(make_folder(pair.reference.work), args.quiet) as runner:
            runner.run([*plan(pair.reference), postprocess(pair.job), comparison(pair.reference, pair.job)])
    text = report(pairs)
    page = pairs[0].reference.work / JUDGED / "table.md"
    write_file(page, f"{text}\n".encode())
    print(f"\n{text}\n\n{page}: this table; beside the results, a page for each comparison:")
    print(*(pair.job.page for pair in pairs), sep="\n")
    return DONE if all(pair.agrees for pair in pairs) else DIFFERS


def open_results(tar: Path, args: argparse.Namespace) -> List[Pair]:
    """Unpack and check one tar. Raises UserError for a damaged one, one of a kit that was not packed here, and where a
    run is missing."""
    told = read_report(tar)
    record = find_record(tar, told["kit"], args.work)
    packed = read_packed(record, args)
    folder = unpacked(tar, packed.work / JUDGED)
    kit = server.kit_of(folder)
    runs = server.runs_of(kit, told["target"])
    missing = [name for run in runs for name in server.dumps_of(run, kit) if name not in told["complete"]]
    if missing:
        log = folder / server.LOG
        last = log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:] if log.exists() else []
        raise UserError(f"{tar}: not complete: no results in {', '.join(missing)}; run.sh ended with code "
                        f"{told['code']}: {' / '.join(last)}. All it printed is in {log}. Run it again on the server, "
                        "it continues")
    check_clock(tar, told["made"], record.stat().st_mtime)
    return [pair_of(run, told, packed, folder, tar) for run in runs]


def read_report(tar: Path) -> Dict[str, Any]:
    if not tar.is_file():
        raise UserError(f"{tar}: no such file of results")
    content = read_one(tar, server.RESULTS_TOP, server.REPORT)
    try:
        report = json.loads(content)
        known = report["format"] == server.FORMAT and REPORTED <= report.keys()
    except (AttributeError, KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise UserError(f"{tar}: not results of a kit of this version of the project. Judge them with the version that "
                        "packed it")
    return report


def find_record(tar: Path, kit: str, work: Optional[Path]) -> Path:
    """What `pack.py` left in its work folder about a kit."""
    places = [work] if work else sorted(RUNS.glob("*"))
    found = [place / RECORDS / f"{kit}.json" for place in places if (place / RECORDS / f"{kit}.json").is_file()]
    if not found:
        raise UserError(f"{tar}: results of kit {kit[:12]}, which was not packed in {work or RUNS}. Judge it where it "
                        "was packed, and name the --work of then")
    return found[0]


def read_packed(record: Path, args: argparse.Namespace) -> Job:
    """The job that was packed as a kit, on this machine's CPU, with the paths that are given now."""
    kinds = typing.get_type_hints(Job)
    values: Dict[str, Any] = read_json(record, "record of a kit")
    for name in values:
        if values[name] is not None and kinds[name] in (Path, Optional[Path]):
            values[name] = Path(values[name])
    given = {name: getattr(args, name) for name in ("dataroot", "annotations", "work") if getattr(args, name)}
    return dataclasses.replace(Job(**values), **given)


def unpacked(tar: Path, place: Path) -> Path:
    """The folder of a tar of results, in `place`, with every file as its SHA256SUMS says."""
    folder = place / sha256_of_file(tar)[:12]
    if not folder.exists():
        partial = make_folder(place) / f"{folder.name}.{secrets.token_hex(4)}.tmp"
        try:
            unpack(tar, server.RESULTS_TOP, partial)
            sums = read_sums(partial, tar)
            damaged = [name for name, digest in sums.items()
                       if not (partial / name).is_file() or sha256_of_file(partial / name) != digest]
            if damaged:
                raise UserError(f"{tar}: damaged: {len(damaged)} of {len(sums)} files are missing or not as the server "
                                f"wrote them ({damaged[0]}). Copy it from the server again")
            os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def check_clock(tar: Path, made: float, packed: float) -> None:
    if not packed - DAY < made < time.time() + DAY:
        note(f"{tar}: the server's clock said {time.strftime('%Y-%m-%d', time.gmtime(made))}, which is wrong: dates "
             "of its files and logs are wrong too, measured times are not")


def pair_of(run: Dict[str, Any], told: Dict[str, Any], packed: Job, folder: Path, tar: Path) -> Pair:
    reference = dataclasses.replace(packed, batch=run["batch"])
    job = dataclasses.replace(reference, target=run["target"], runner=told["runner"], variant=run["variant"],
                              options=run["options"], work=folder)
    return Pair(job, reference, tar)


def report(pairs: List[Pair]) -> str:
    """One table: this machine's CPU at each batch size, then the servers' runs."""
    judged = {pair.job.dumps(): pair for pair in pairs}
    references = {pair.reference.dumps(): pair.reference for pair in pairs}

    def more(job: Job, metrics: Dict[str, Any]) -> Dict[str, str]:
        pair = judged.get(job.dumps())
        by_aipp = job.dtype == UINT8 and job.target not in (CPU, "gpu")
        bins = f"{job.dtype}, AIPP" if by_aipp else job.dtype
        agrees = mark("yes" if pair.agrees else "NO", is_emulated(metrics)) if pair else NOTHING
        precision = room_of(job.target, job.runner).precision(job)
        return {"bins": bins, "precision": precision, "from": pair.tar.name if pair else "this machine",
                "agrees with the CPU": agrees}

    return results_table([*references.values(), *(pair.job for pair in pairs)], more)
