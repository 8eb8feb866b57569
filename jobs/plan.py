"""The stages of a job."""
from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

from contract.packages import not_importable
from contract.stage import Stage, stage
from jobs.job import Job
from jobs.targets import room_of

EXPORTERS_NEED = {"pth2onnx.py": ("torch", "onnx", "onnxsim"), "detection.export": ("torch", "onnx")}


def plan(job: Job) -> List[Stage]:
    """All of them, in order."""
    room = room_of(job.target, job.runner)
    runs = [room.run(job, mirrored) for mirrored in ((False, True) if job.mirrors else (False,))]
    return [*find_people(job), preprocess(job), *room.build(job), *runs, postprocess(job)]


def people_of(job: Job) -> Path:
    """The detections that the job goes on with: those given, those of the target, or those of preprocess.py."""
    return job.detections or (job.found_people if find_people(job) else job.work / "detections.json")


def find_people(job: Job) -> List[Stage]:
    """None where preprocess.py finds them, on this machine."""
    if job.annotated or job.detections:
        return []
    return room_of(job.target, job.runner).find_people(job) or ([job.detect("onnxruntime")] if job.cluster else [])


def preprocess(job: Job) -> Stage:
    people, reads, leaves = people_of(job), [job.dataroot], [job.bins()]
    mirrored: Tuple[object, ...] = ("--no_flip",)
    if job.mirrors:
        mirrored = ("--output_flip", job.bins(True))
        leaves.append(job.bins(True))
    only = ("--only", job.only) if job.only else ()
    boxes: List[object] = ["--gt_boxes"]
    if not job.annotated and (job.detections or find_people(job)):
        boxes = ["--detections", people]
        if job.person_category is not None:
            boxes += ["--person_category", job.person_category]
        reads.append(people)
    elif not job.annotated:
        boxes = ["--weights", job.weights, "--yolo_cfg", job.yolo_cfg, *job.class_of_people()]
        reads += [job.weights, job.yolo_cfg]
        leaves.append(people)
    return stage("preprocess.py", *job.photos(), "--output", job.bins(), *mirrored, "--dtype", job.dtype, "--cfg",
                 job.cfg, *boxes, *job.limited(), *only, "--replace", reads=[*reads, job.cfg], leaves=leaves)


def postprocess(job: Job) -> Stage:
    options: Tuple[object, ...] = ("--dump_dir_flip", job.dumps(True)) if job.mirrors else ("--output", job.score)
    if job.only:
        options += ("--no_score",)
    return stage("postprocess.py", "--dataroot", job.dataroot, *job.truth(), "--manifest", job.manifest,
                 "--dump_dir", job.dumps(), *options, "--cfg", job.cfg, reads=(job.manifest, job.cfg, *job.all_dumps),
                 leaves=(job.score / "keypoints.json", job.metrics))


def missing_packages(job: Job) -> List[str]:
    """What Python lacks for the job, by pip's names."""
    needed = {name: name for stage in plan(job) for name in EXPORTERS_NEED.get(stage.name, ())}
    return [*room_of(job.target, job.runner).missing_packages(job.runner), *not_importable(needed)]
