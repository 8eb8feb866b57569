"""Making a kit: the stages that need packages run here, and what they leave goes into one tar."""
from __future__ import annotations

from contract.script import ROOT

import argparse
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from contract.errors import UserError
from contract.files import make_folder, write_json
from contract.manifest import load_manifest
from contract.onnx_file import files_of_onnx, save_facts
from contract.progress import Progress
from contract.room import FP16
from contract.stage import Stage
from contract.version import VERSION
from jobs.job import Job
from jobs.plan import find_people, preprocess
from jobs.runner import Runner
from jobs.series import calibration_problems, make_jobs, one_pass_problems, render, render_calibration
from jobs.targets import choose, room_of
from kit import plan, server
from kit.archive import Content, tar_bytes, write_tar

CPU = "cpu"  # what the others are compared with
TOP = "kit"
RECORDS = "kits"  # in the work folder: of what each kit was packed, for the judge
PRECISIONS = "precision", "precision_mode"  # options that may be several runs
HERE = Path(__file__).resolve().parent
# What runs on the server, from the project's root: files, or folders with all their sources; and the options of every
# room, which infer.py asks for. The rooms of a kit's own targets come with all their files.
PROGRAM = ("infer.py", "contract", "kit/__init__.py", "kit/archive.py", "kit/server.py", "kit/step.py",
           "backends/__init__.py", "backends/rooms.py", "ascend/__init__.py", "ascend/options.py",
           "ascend/precision.py")
OF_ROOMS = ("backends/*/__init__.py", "backends/*/options.py")


@dataclasses.dataclass(frozen=True)
class Packed:
    """What one run of the kit is made of: the job here, and its ONNX file."""

    job: Job
    onnx: Path
    stages: Tuple[Stage, ...]  # that make it


def reference_jobs(args: argparse.Namespace) -> List[Job]:
    """On this machine's CPU, one for each batch size."""
    return make_jobs(args, choose([CPU], {}))


def kit_jobs(args: argparse.Namespace, references: Sequence[Job]) -> List[Packed]:
    """What the kit runs: each target, precision and batch size. Raises UserError for what cannot be made here."""
    jobs = [dataclasses.replace(one, target=target, runner=first_runner(target), options=options, variant=variant)
            for target in args.target for options, variant in variants(target, args) for one in references]
    problems = dict.fromkeys(problem for job in jobs for problem in
                             [*one_pass_problems(job), *([] if args.demo else calibration_problems(job))])
    if problems:
        raise UserError(". ".join(problems))
    return [packed_of(job) for job in jobs]


def first_runner(target: str) -> str:
    """The models of a target are made alike for all of its runners."""
    return next(iter(plan.kit_runners(target)))


def packed_of(job: Job) -> Packed:
    """A room builds its own kind of file, which MODELS names first, of an ONNX file that is made here."""
    room = room_of(job.target, job.runner)
    stages = tuple(one for one in room.build(job) if one.leaves[0].suffix not in room.MODELS[:-1])
    onnx = stages[-1].leaves[0] if stages else job.model
    assert onnx is not None  # the one or the other
    return Packed(job, onnx, stages)


def variants(target: str, args: argparse.Namespace) -> List[Tuple[Dict[str, str], str]]:
    """The options of each precision that was asked for, and what they add to names of files."""
    found = []
    takes = room_of(target, first_runner(target)).options(target)
    asked = [[word for word in getattr(args, name) or () if word in words_of(target, name, args)] or [""]
             for name in PRECISIONS]
    for words in itertools.product(*asked):
        options = {name: word for name, word in zip(PRECISIONS, words) if word in takes.get(name, ())}
        found.append((options, "".join(f"_{word}" for word in words if word)))
    return found


def words_of(target: str, name: str, args: argparse.Namespace) -> List[str]:
    """What an option of PRECISIONS may be for a target. float16 is what atc makes where no mode is named."""
    takes = room_of(target, first_runner(target)).options(target)
    unasked = [FP16] if name == "precision" and "precision_mode" in takes and not args.precision_mode else []
    return [*unasked, *takes.get(name, ())]


def check_precisions(args: argparse.Namespace) -> None:
    """Raises UserError for a precision that none of the targets takes."""
    for name in PRECISIONS:
        taken = {word for target in args.target for word in words_of(target, name, args)}
        for word in getattr(args, name) or ():
            if word not in taken:
                raise UserError(f"--{name} {word} is not for {', '.join(args.target)}, expected "
                                f"{' or '.join(sorted(taken)) or 'none'}")


def prepare(args: argparse.Namespace, references: Sequence[Job], packed: Sequence[Packed], runner: Runner) -> None:
    """Run the stages that need packages: people, bins, ONNX files, and the CPU's results of the few."""
    first = references[0]
    exports = [*room_of(CPU, first.runner).build(first), *(stage for one in packed for stage in one.stages)]
    rendered = [*render(args), *render_calibration(args, [one.job for one in packed])]
    runner.run([*rendered, *find_people(first), preprocess(first), *dict.fromkeys(exports)])
    few = plan.few_of(first, first.work / server.FEW)
    for bins, some in zip(plan.bins_of(first), plan.bins_of(few)):
        server.make_few(bins, some)
    runner.run(plan.runs(few))


def contents(references: Sequence[Job], packed: Sequence[Packed]) -> Dict[str, Content]:
    """Name in the kit -> content of every file."""
    first = references[0]
    manifest = load_manifest(first.manifest)
    files: Dict[str, Content] = {f"{bins.name}/{path.name}": path for bins in plan.bins_of(first)
                                 for path in bins.iterdir() if path.suffix in (".bin", ".json")}
    for one in packed:
        for path in (*files_of_onnx(one.onnx), save_facts(one.onnx)):
            files[f"{server.MODELS}/{path.name}"] = path
    for path in program_files([one.job.target for one in packed]):
        files[f"program/{path.relative_to(ROOT).as_posix()}"] = path
    few = plan.few_of(first, first.work / server.FEW)
    expected = server.expected_of(list(few.all_dumps), load_manifest(few.manifest))
    files[server.EXPECTED] = as_json(expected)
    dump = next(few.dumps().glob("*.bin"))  # of one person
    files[server.KIT] = as_json(describe(first, packed, len(manifest), dump.stat().st_size))
    jobs = [(one.job, one.onnx.name) for one in packed]
    files["run.sh"] = plan.script((HERE / "run.sh").read_text(encoding="utf-8"), first.name, jobs).encode()
    files["README.txt"] = (HERE / "README.txt").read_bytes()
    return files


def describe(first: Job, packed: Sequence[Packed], people: int, dump_bytes: int) -> Dict[str, Any]:
    """What KIT holds."""
    return {"format": server.FORMAT, "version": VERSION, "name": first.name, "people": people,
            "dtype": first.dtype, "dump_bytes": dump_bytes, "bins": [bins.name for bins in plan.bins_of(first)],
            "runs": [{"name": one.job.dumps().name, "target": one.job.target, "batch": one.job.batch,
                      "variant": one.job.variant, "options": one.job.options,
                      "model": f"{server.MODELS}/{one.onnx.name}", "runners": plan.kit_runners(one.job.target)}
                     for one in packed]}


def as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def program_files(targets: Sequence[str]) -> List[Path]:
    """The sources that run on a server of these targets."""
    jobs = [job for target in targets for job in plan.kit_runners(target).values()]
    rooms = {job.rpartition(".")[0].replace(".", "/") for job in jobs}
    found = [path for name in (*PROGRAM, *rooms) for path in
             ([ROOT / name] if name.endswith(".py") else sorted((ROOT / name).glob("*.py")))]
    return list(dict.fromkeys([*found, *(path for pattern in OF_ROOMS for path in sorted(ROOT.glob(pattern)))]))


def sizes_of(files: Dict[str, Content]) -> int:
    """Bytes of the tar that holds them."""
    return tar_bytes([len(content) if isinstance(content, bytes) else content.stat().st_size
                      for content in files.values()])


def write_kit(files: Dict[str, Content], output: Path) -> str:
    """Returns the kit's identity."""
    make_folder(output.parent)
    with Progress(total=sizes_of(files), desc="packing", unit="B", unit_scale=True) as bar:
        return write_tar(output, TOP, files, bar.update)


def keep_record(identity: str, first: Job) -> None:
    """What the judge needs to know and the kit does not tell: where things are on the machine that packed it."""
    facts = {name: str(value) if isinstance(value, Path) else value for name, value in vars(first).items()}
    write_json(make_folder(first.work / RECORDS) / f"{identity}.json", facts)
