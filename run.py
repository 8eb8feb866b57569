"""From photos and a checkpoint to a row of the result table, for each target and batch size.

    python3 run.py --targets cpu --demo
    python3 run.py --targets cpu Ascend310P3 --batch 1 16 --validate --dataroot ./data/coco

The scripts in scripts/ call it with the batch size in their names. A stage whose inputs have not changed since it
wrote its outputs is skipped. The others run again.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import shlex
import sys
from typing import List, Sequence

from contract.errors import DIFFERS, DONE
from contract.files import make_folder, write_file
from contract.stage import Stage
from jobs import sweep, validation
from jobs.arguments import check_files, parse_args, requirements_of
from jobs.job import Job
from jobs.plan import plan
from jobs.runner import ROOT, Runner, StageFailed, at_work
from jobs.series import is_calibrated, machine_checks, make_choices, make_jobs, render, render_calibration
from jobs.tables import boxes_table, results_table, who_got_options
from jobs.targets import Choice

SETUP = ROOT / "scripts" / "setup.sh"


def set_up(args: argparse.Namespace) -> None:
    """Become this command again, in the environment that scripts/setup.sh makes; does not return."""
    os.environ.setdefault("REQUIREMENTS", requirements_of(args))
    arguments = [argument for argument in sys.argv[1:] if argument != "--setup"]
    sys.stdout.flush()
    os.execvp("bash", ["bash", os.fspath(SETUP), os.fspath(ROOT / "run.py"), *arguments])


def print_plan(stages: Sequence[Stage]) -> None:
    for one in stages:
        print(shlex.join(["python3", *one.command]))
        for word, paths in (("reads", one.reads), ("leaves", one.leaves)):
            if paths:
                print(f"    {word} {', '.join(map(str, paths))}")


def run_sweep(args: argparse.Namespace) -> int:
    checks, rendered = sweep.machine_checks(args), render(args, "--images", args.photographs)
    stages = [*rendered, *sweep.plan(args)]
    if args.plan:
        print_plan([*checks, *stages])
        return DONE
    with Runner() as runner:
        runner.run(checks)
    if not args.check:
        with at_work(make_folder(args.work), args.quiet) as runner:
            runner.run(stages)
    return DONE


def run_jobs(args: argparse.Namespace) -> int:
    choices = make_choices(args)
    for choice in choices:
        if choice.several:
            print(f"runner: {choice.runner}{choice.reason}", flush=True)
    jobs = make_jobs(args, choices)
    planned = jobs
    compared = validation.comparisons(jobs) if args.validate and not args.quick else []
    rendered = [*render(args), *render_calibration(args, jobs)]
    if args.quick:
        from jobs import quick  # it needs packages, and this file is read before there are any

        people, jobs = quick.with_people(jobs)
        rendered, planned = [*rendered, *people], [quick.part_of(job, 0) for job in jobs]
    for photos in dict.fromkeys(job.calibration for job in jobs if is_calibrated(job)):
        print(f"int8 is calibrated on {photos}", flush=True)
    if args.plan:
        print_plan([*machine_checks(jobs), *rendered, *(one for job in planned for one in plan(job)), *compared])
        return DONE
    with Runner(quiet=args.quiet) as runner:  # hours are lost when the last target turns out to be ill
        runner.run(machine_checks(jobs))
    if args.check:
        return DONE
    with at_work(make_folder(args.work), args.quiet) as runner:
        runner.run(rendered)
        if args.quick:
            return quick.validate(jobs, runner)
        for job in jobs:
            *stages, last = plan(job)
            runner.run(stages)
            runner.run([last], shown=len(jobs) == 1)
        if args.validate:
            return validate(args, jobs, runner, compared, choices)
    if len(jobs) > 1:
        table = boxes_table(jobs, args.boxes) if len(args.boxes) > 1 else results_table(jobs)
        print(*filter(None, ["", table, who_got_options(choices)]), sep="\n\n")
    return DONE


def validate(args: argparse.Namespace, jobs: List[Job], runner: Runner, compared: List[Stage],
             choices: Sequence[Choice]) -> int:
    validation.forget_verdicts(jobs)
    runner.run(compared)
    text = "\n\n".join(filter(None, [validation.validation_table(jobs), who_got_options(choices)]))
    write_file(args.work / "validation.md", f"{text}\n".encode())
    print(text)
    return DONE if validation.agree(jobs) else DIFFERS


def main() -> int:
    args = parse_args()
    check_files(args, ROOT)
    if args.setup:
        set_up(args)
    os.chdir(ROOT)
    try:
        return run_sweep(args) if args.sweep else run_jobs(args)
    except StageFailed as failed:
        return failed.code


if __name__ == "__main__":
    sys.exit(exit_code(main))
