"""--quick: photos part by part, until it is decided whether the AP of each target lies near that of PyTorch."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Sequence, Set, Tuple

import numpy as np

from contract.errors import DIFFERS, DONE
from contract.files import make_folder, read_json, write_file, write_json
from contract.records import is_emulated
from contract.stage import Stage
from contract.tables import format_table, mark
from jobs.job import Job
from jobs.plan import find_people, plan
from jobs.runner import Runner
from jobs.validation import by_batch
from pose.annotations import Annotations, ground_truth_boxes, load_annotations
from pose.coco import PERSON, load_detections
from pose.matching import load_truth, match_results
from pose.sequential import ERROR, MARGIN, Decision, Draw, draw_photos, judge

PARTS, LEAST_PHOTOS = 20, 50  # a part has at least so many photos, as the stages start anew for each
SEED = 0  # of the order of the photos
COLUMNS = ("target", "batch", f"AP within {MARGIN} of PyTorch's", "difference of AP", "photos used", "of their people")


def validate(jobs: Sequence[Job], runner: Runner) -> int:
    """Run the jobs, whose boxes are known, on part after part of the photos until all are decided. Print the table and
    leave it in the work folder. Returns the exit code."""
    annotations = load_annotations(jobs[0].dataroot)
    ids, draw = sorted(annotations.images), draw_of(annotations, jobs[0])
    pairs = [(reference, job) for reference, others in by_batch(jobs) for job in others]
    people: Dict[str, List[Dict[str, Any]]] = {job.dumps().name: [] for job in jobs}
    decisions: Dict[str, Decision] = {}
    ran: Set[Stage] = set()
    for number, (start, end) in enumerate(parts_of(len(draw.order))):
        left = [pair for pair in pairs if pair[1].dumps().name not in decisions]
        write_photos(part_of(jobs[0], number), [ids[photo] for photo in draw.order[start:end]])
        for name, job in {job.dumps().name: job for pair in left for job in pair}.items():
            people[name] += run_part(part_of(job, number), runner, ran)
        truth = load_truth(annotations, [ids[photo] for photo in draw.order[:end]])
        for pair in left:
            a, b = (match_results(truth, people[job.dumps().name]) for job in pair)
            found = judge(a, b, draw, end)
            if found.within is not None:
                decisions[pair[1].dumps().name] = found
        print(f"--quick: {end} of {len(draw.order)} photos, {len(decisions)} of {len(pairs)} decided", flush=True)
        if len(decisions) == len(pairs):
            break
    return report([(job, decisions[job.dumps().name]) for _, job in pairs], draw)


def with_people(jobs: List[Job]) -> Tuple[List[Stage], List[Job]]:
    """What finds people on all photos, and the jobs that go on with them: their number tells what a photo can do to AP
    before it is looked at."""
    first = jobs[0]
    if first.annotated or first.detections:
        return [], jobs
    return (find_people(first) or [first.detect("onnxruntime")],
            [dataclasses.replace(job, detections=first.found_people) for job in jobs])


def draw_of(annotations: Annotations, job: Job) -> Draw:
    """The order of the photos, of which those that nobody is on are left out."""
    boxes = ground_truth_boxes(annotations)
    if job.detections:
        boxes = load_detections(job.detections, PERSON if job.person_category is None else job.person_category)
        annotations.require_images(boxes.image_ids.tolist(), "detections")
    truth = load_truth(annotations, None)
    numbers = np.searchsorted(list(truth.numbers), boxes.image_ids)
    return draw_photos(truth.wanted[0], np.bincount(numbers, minlength=len(truth.numbers)), SEED)


def parts_of(photos: int) -> List[Tuple[int, int]]:
    count = min(PARTS, max(1, photos // LEAST_PHOTOS))
    ends = [photos * number // count for number in range(count + 1)]
    return list(zip(ends, ends[1:]))


def part_of(job: Job, number: int) -> Job:
    name = f"_quick{number}"
    return dataclasses.replace(job, label=f"{job.label}{name}", only=job.work / f"photos{name}.json")


def write_photos(part: Job, ids: List[int]) -> None:
    assert part.only is not None
    write_json(make_folder(part.only.parent) / part.only.name, sorted(ids), indent=None)


def run_part(part: Job, runner: Runner, ran: Set[Stage]) -> List[Dict[str, Any]]:
    """The people that a job finds on a part of the photos. What does not depend on the part, as models, runs once."""
    stages = [stage for stage in plan(part) if stage not in ran]
    runner.run(stages)
    ran.update(stages)
    return read_json(part.score / "keypoints.json", "keypoints")


def report(rows: Sequence[Tuple[Job, Decision]], draw: Draw) -> int:
    cells, records = [], []
    for job, found in rows:
        emulated = is_emulated(read_json(part_of(job, 0).metrics, "metrics"))
        exact, share = found.photos == len(draw.order), draw.size[draw.order[:found.photos]].sum() / draw.size.sum()
        cells.append([job.target, job.batch, mark("yes" if found.within else "NO", emulated),
                      f"{found.difference:+.4f}" + ("" if exact else " (estimate)"),
                      f"{found.photos} of {len(draw.order)} ({found.photos / len(draw.order):.0%})", f"{share:.0%}"])
        records.append({"target": job.target, "batch": job.batch, **found._asdict(), "exact": exact})
    text = "\n\n".join([format_table(COLUMNS, cells), EXPLANATION])
    work = rows[0][0].work
    write_file(work / "validation_quick.md", f"{text}\n".encode())
    write_json(work / "validation_quick.json", {"seed": SEED, "margin": MARGIN, "error": ERROR,
                                                "photos": len(draw.order), "targets": records})
    print(text)
    return DONE if all(found.within for _, found in rows) else DIFFERS


EXPLANATION = (f"A yes or NO errs with a chance of at most {ERROR:.0%}; where all photos were used, it is exact. It is "
               "no AP of all photos:\nfor AP, speed and the comparison of every person, run it without --quick.")
