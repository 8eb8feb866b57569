"""The targets of a job: the backend that runs each one, and the options that it takes."""
from __future__ import annotations

import dataclasses
import importlib
import re
from typing import Any, Dict, List, Sequence, Tuple

from contract.errors import UserError
from contract.room import INT8
from jobs.job import INT8_TARGET, Job, without_int8

# Target -> its runners, the best first, and the module of each. What is not here is the soc version of an Ascend NPU.
TARGETS = {"cpu": {"onnxruntime": "backends.onnxruntime.job"},
           "pytorch": {"pytorch": "backends.pytorch.job"},
           "openvino": {"openvino": "backends.openvino.job"},
           "ncnn": {"ncnn": "backends.ncnn.job"},
           "gpu": {"tensorrt": "backends.tensorrt.job", "pytorch": "backends.pytorch.job",
                   "trtexec": "backends.tensorrt.job"}}
ASCEND = {"ais_bench": "ascend.job", "acl": "ascend.job"}
SOC_VERSION = re.compile(r"[Aa]scend.*|[39]10.*")
OF_INT8 = ("float_layers",)  # options that are for int8 alone
IDS = re.compile(r"\d+(,\d+)*")


def runners_of(target: str) -> Dict[str, str]:
    """Those of cpu-int8 are those of cpu. Raises UserError where there is no such target."""
    machine = without_int8(target)
    if machine in TARGETS:
        return TARGETS[machine]
    if SOC_VERSION.fullmatch(machine):
        return ASCEND
    chip = importlib.import_module("ascend.soc").chip_of_card(target)
    if chip:
        raise UserError(f"the target {target} is a card, expected its chip: type {chip}")
    raise UserError(f"unknown target {target}, expected one of: {', '.join(TARGETS)}, or a soc version such as "
                    f"Ascend310P3 (python3 -m ascend.soc prints it), each also with {INT8_TARGET} at its end")


def room_of(target: str, runner: str) -> Any:
    """The module with the stages: options, missing_packages, check, find_people, build, run."""
    return importlib.import_module(runners_of(target)[runner])


@dataclasses.dataclass(frozen=True)
class Choice:
    """A target with the options that it takes, and why it is run so."""

    target: str
    runner: str
    options: Dict[str, str]
    reason: str = ""

    @property
    def several(self) -> bool:
        """Whether the target has more than one runner."""
        return len(runners_of(self.target)) > 1


def choose(targets: Sequence[str], given: Dict[str, str]) -> List[Choice]:
    """Share out the options that the user gave among the targets that take them.

    Raises UserError for an option, or a value of one, that no target takes, and names those that would.
    """
    chosen = [_choose_one(target, given) for target in targets]
    for option, value in given.items():
        if not any(option in choice.options or option == "runner" and choice.runner == value for choice in chosen):
            raise UserError(_nobody_takes(option, value, targets))
    return chosen


def _choose_one(target: str, given: Dict[str, str]) -> Choice:
    runners = runners_of(target)
    runner, reason = given.get("runner"), ""
    if runner not in runners:
        runner, reason = _best_runner(target)
    takes = room_of(target, runner).options(target)
    if target.endswith(INT8_TARGET):
        if INT8 not in takes.get("precision", ()):
            raise UserError(f"{target}: {without_int8(target)} with {runner} has no int8")
        takes = {name: words for name, words in takes.items() if name != "precision"}  # its name says it
    elif given.get("precision") != INT8:
        takes = {name: words for name, words in takes.items() if name not in OF_INT8}
    options = {name: value for name, value in given.items() if name in takes and _fits(value, takes[name])}
    return Choice(target, runner, options, reason)


def _best_runner(target: str) -> Tuple[str, str]:
    """The first that has its packages, or the last; and what those before it lack."""
    *better, last = runners_of(target)
    lacks: List[str] = []
    for runner in better:
        missing = room_of(target, runner).missing_packages(runner)
        if not missing:
            break
        lacks += missing
    else:
        runner = last
    return runner, f", because Python has no {' and no '.join(lacks)}" if lacks else ""


def _fits(value: str, words: Sequence[str]) -> bool:
    return not words or value in words


def _nobody_takes(option: str, value: str, targets: Sequence[str]) -> str:
    """Why, and which targets take the option and with which words."""
    where: Dict[str, Sequence[str]] = {}
    for target in (*TARGETS, "Ascend310P3"):
        runners = runners_of(target)
        if option == "runner" and len(runners) > 1:
            where[target] = tuple(runners)
        for runner in runners:
            takes = room_of(target, runner).options(target)
            if option in takes:
                name = f"{target} with {runner}" if len(runners) > 1 else target
                where[f"{name} in int8" if option in OF_INT8 else name] = takes[option]
    known = "; ".join(f"{name}: {', '.join(words) or 'any'}" for name, words in where.items())
    return f"--{option} {value} is not for {', '.join(targets)}. It is taken by {known}"


def check_options(job: Job) -> List[str]:
    """What is wrong with the options of a job, in words."""
    device, gears = job.options.get("device", "0"), job.options.get("gears")
    named = room_of(job.target, job.runner).options(job.target).get("device")  # by words, which were checked
    found = []
    if not named and not IDS.fullmatch(device) or len(set(device.split(","))) <= device.count(","):
        found.append(f"--device is {device}, expected different ids, such as 0 or 0,1")
    if gears and not IDS.fullmatch(gears):
        found.append(f"--gears is {gears}, expected batch sizes, such as 1,4,8,16")
    elif gears and str(job.batch) not in gears.split(","):
        found.append(f"--gears {gears} has none for a batch of {job.batch}")
    elif gears and job.precision == INT8:
        found.append(f"--gears {gears}: int8 is built for one batch size alone")
    return found
