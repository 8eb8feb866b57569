"""run.py --quick: the jobs on one part of the photos after another, until it is decided how near the APs are."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from contract.files import make_folder, read_json
from contract.records import is_emulated
from contract.stage import Stage, stage
from contract.tables import format_table, mark
from jobs.job import Job
from jobs.validation import by_batch

PARTS, MARGIN = "parts.json", 0.003  # as pose.parts and pose.sequential say


def deal(args: argparse.Namespace) -> Stage:
    """The photos dealt into data roots."""
    boxes = ("--detections", args.detections) if args.detections else ()
    return stage("-m", "pose.parts", "deal", args.dataroot, args.work, *boxes, reads=(args.dataroot,),
                 leaves=(args.work / PARTS,))


def of_part(args: argparse.Namespace, number: int) -> argparse.Namespace:
    """What the user asks for, of the photos of one part."""
    root = args.work / f"part{number}"
    boxes = root / "detections.json" if args.detections else None
    return argparse.Namespace(**{**vars(args), "dataroot": root, "work": root, "detections": boxes})


def decide(args: argparse.Namespace, parts: List[List[Job]]) -> List[Tuple[Job, Stage]]:
    """Each target of the last part, and the stage that holds all its parts so far against those of the reference."""
    decisions = []
    for pairs in zip(*([(reference, job) for reference, others in by_batch(jobs) for job in others]
                       for jobs in parts)):
        sides = [[pair[side].score / "keypoints.json" for pair in pairs] for side in (0, 1)]
        job, output = pairs[-1][1], decision_path(args, pairs[-1][1])
        decisions.append((job, stage("-m", "pose.parts", "decide", args.dataroot, args.work, "--reference", *sides[0],
                                     "--other", *sides[1], "--output", output, reads=(*sides[0], *sides[1]),
                                     leaves=(output,))))
    return decisions


def decision_path(args: argparse.Namespace, job: Job) -> Path:
    return args.work / f"decision_{job.dumps().name}{job.unflipped}.json"


def run(args: argparse.Namespace, run_stages: Callable[[List[Stage]], Any],
        plan_part: Callable[[argparse.Namespace], Tuple[List[Job], List[Stage]]]) -> List[Tuple[Job, Dict[str, Any]]]:
    """Part after part until all is decided: each target with its decision. plan_part: the jobs of a part and their
    stages."""
    make_folder(args.work / "models")
    run_stages([deal(args)])
    parts: List[List[Job]] = []
    decided: List[Tuple[Job, Dict[str, Any]]] = []
    for number in range(len(read_json(args.work / PARTS, "parts"))):
        jobs, stages = plan_part(of_part(args, number))
        parts.append(jobs)
        run_stages(stages)
        decisions = decide(args, parts)
        run_stages([one for _, one in decisions])
        decided = [(job, read_json(decision_path(args, job), "decision")) for job, _ in decisions]
        if all(decision["within"] is not None for _, decision in decided):
            break
    return decided


def table(decided: List[Tuple[Job, Dict[str, Any]]]) -> str:
    """A row for each target and batch size."""
    rows = []
    for job, one in decided:
        emulated = is_emulated(read_json(job.metrics, "metrics"))
        interval = f"{one['low']:+.4f} .. {one['high']:+.4f}" if one["photos"] < one["of"] else "exact: all photos"
        rows.append([job.name, job.batch, job.target, f"{one['photos']} of {one['of']}", f"{one['a']:.4f}",
                     mark(f"{one['b']:.4f}", emulated), f"{one['b'] - one['a']:+.4f}", interval,
                     mark("yes" if one["within"] else "NO", emulated)])
    return format_table(["model", "batch", "target", "photos", "pytorch AP", "AP", "difference", "of all photos",
                         f"within {MARGIN}"], rows)
