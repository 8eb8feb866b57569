"""What run.sh does on the server: the stages of the very jobs that run.py would run there, as lines of bash."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from contract.errors import printable
from contract.room import INT8
from contract.stage import Stage, stage
from contract.workers import as_typed
from jobs.job import Job
from jobs.targets import room_of, runners_of
from kit.server import FEW

FIRST = "@device@"  # stands for the first of the devices that the user names, until it is put into a line of bash
DEVICES = f"{FIRST},@"  # and this for all of them
RUNNERS = ("ais_bench", "acl", "tensorrt", "trtexec", "onnxruntime")  # that a server may have
KIT = Path(".")  # run.sh works there


def on_server(job: Job, onnx: str, runner: str) -> Job:
    """A job of the laptop as it is in the kit: the bins are there, the ONNX file is given, which is int8 already where
    int8 was asked for."""
    options = {**job.options, **({"device": DEVICES} if "device" in room_of(job.target, runner).options(job.target)
                                 else {})}
    return dataclasses.replace(job, work=KIT, model=Path("models", onnx), runner=runner, options=options,
                               quantized=job.quantized or job.precision == INT8)


def few_of(job: Job, work: Path = Path(FEW)) -> Job:
    """The same with the few people of the self-check, in `work`; the model that was built runs."""
    program = room_of(job.target, job.runner).run(job, False).command
    model = Path(program[program.index("--model") + 1])
    return dataclasses.replace(job, work=work, model=model)


def runs(job: Job) -> List[Stage]:
    """Normal crops, and mirrored ones where there is a flip test."""
    room = room_of(job.target, job.runner)
    return [_without_config(room.run(job, mirrored)) for mirrored in ((False, True) if job.mirrors else (False,))]


def _without_config(one: Stage) -> Stage:
    """The manifest of the bins says the same, and no package is needed to read it."""
    place = one.command.index("--cfg")
    return dataclasses.replace(one, command=(*one.command[:place], *one.command[place + 2:]))


def bins_of(job: Job) -> List[Path]:
    """As `all_dumps` are the dumps."""
    return [job.bins(mirrored) for mirrored in ((False, True) if job.mirrors else (False,))]


def verify(job: Job) -> Stage:
    return stage("-m", "kit.server", "verify", *few_of(job).all_dumps)


def script(template: str, name: str, jobs: Sequence[Tuple[Job, str]]) -> str:
    """The text of run.sh, of jobs with the name of the ONNX file of each."""
    targets = list(dict.fromkeys(job.target for job, _ in jobs))
    runners = {target: list(kit_runners(target)) for target in targets}
    cases = [f"    {target}-{runner})\n" + "\n".join(f"        {line}" for line in _lines(
        [on_server(job, onnx, runner) for job, onnx in jobs if job.target == target])) + "\n        ;;"
        for target in targets for runner in runners[target]]
    unknown = '    *) fail "--runner $runner is not for $target. Known are @RUNNERS@" ;;'
    plan = "\n".join(['case "$target-$runner" in', *cases, unknown, "esac"])
    words = {"@PLAN@": plan, "@NAME@": printable(name), "@TARGETS@": " ".join(targets),
             "@RUNNERS@": ", ".join(dict.fromkeys(runner for names in runners.values() for runner in names))}
    for word, text in words.items():
        template = template.replace(word, text)
    return template


def kit_runners(target: str) -> Dict[str, str]:
    """Those of a target that need no package but the vendor's; none where a kit cannot be for it."""
    return {name: job for name, job in runners_of(target).items() if name in RUNNERS}


def _lines(jobs: Sequence[Job]) -> List[str]:
    """Each model is built, then tried on the few people, and then the long runs follow."""
    room = room_of(jobs[0].target, jobs[0].runner)
    one_of_each = reversed({job.variant: job for job in reversed(jobs)}.values())
    lines = ["# the machine", *dict.fromkeys(_line(check) for job in one_of_each for check in room.check(job)),
             f"# the people of the self-check, in {FEW}/",
             _line(stage("-m", "kit.server", "few", *(bins.name for bins in bins_of(jobs[0]))))]
    for job in jobs:
        lines += [f"# {job.dumps().name}", *map(_line, room.build(job)), *map(_line, runs(few_of(job))),
                  f'{_line(verify(job))} || [ -n "$anyway" ]']
    for job in jobs:
        lines += [f"# {job.dumps().name}: all people", *map(_line, runs(job))]
    return lines


def _line(one: Stage) -> str:
    program = ("program/" if one.command[0] != "-m" else "") + as_typed(list(one.command))
    words = program.replace(DEVICES, '"$device"').replace(FIRST, '"${device%%,*}"')
    return f'step "$PYTHON" {words}'
