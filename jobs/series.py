"""Several jobs: one for each kind of boxes, target and batch size that the user asks for."""
from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from contract.errors import UserError
from contract.onnx_file import read_facts
from contract.packages import not_importable
from contract.room import INT8
from contract.stage import Stage, stage
from jobs.arguments import ANNOTATED, DEMO_CALIBRATION, OF_TARGETS, PHOTOGRAPHS
from jobs.job import FLOAT32, UINT8, Job
from jobs.plan import missing_packages, people_of
from jobs.targets import Choice, check_options, choose, room_of, without_int8

ONE_PASS_INT8 = ("cpu", "openvino")  # targets whose int8 file can be wrapped; run on cpu alone so far
REFERENCE = "pytorch"  # which the others are compared with
CALIBRATION_SEED = 18  # of the demo's photos to calibrate on; those that are scored have another
MMDEPLOY = "backends.ncnn.mmdeploy"  # reads its configs


def make_choices(args: argparse.Namespace) -> List[Choice]:
    """The targets, without repeats; the reference first where they are compared with it."""
    if args.deploy_cfg:
        args.precision = precision_of(args.deploy_cfg, args.cfg)
    targets = dict.fromkeys([REFERENCE, *args.targets] if args.validate else args.targets)
    return choose(list(targets), {name: getattr(args, name) for name in OF_TARGETS if getattr(args, name) is not None})


def precision_of(deploy_cfg: Path, cfg: Path) -> str:
    """What mmdeploy's config asks for. Raises UserError when its input is not that of the model."""
    from contract.spec import load_spec  # which needs packages

    deploy = importlib.import_module(MMDEPLOY).read_deploy_config(deploy_cfg)
    size = tuple(load_spec(cfg).input_shape[1:])
    if deploy.input_size not in (None, size):
        raise UserError(f"{deploy_cfg}: onnx_config.input_shape is {deploy.input_size[::-1]}, but {cfg} says "
                        f"{size[::-1]} (width, height)")
    return deploy.precision


def make_jobs(args: argparse.Namespace, choices: Sequence[Choice]) -> List[Job]:
    """The jobs. Raises UserError that lists every reason why one of them cannot run."""
    jobs = [Job(target=choice.target, runner=choice.runner, batch=batch, dataroot=args.dataroot,
                checkpoint=args.checkpoint, cfg=args.cfg, weights=args.weights, yolo_cfg=args.yolo_cfg, work=args.work,
                images=args.images, annotations=args.annotations, detections=args.detections,
                person_class=args.person_class, person_category=args.person_category,
                annotated=boxes == ANNOTATED, limit=args.limit,
                dtype=UINT8 if args.uint8 or args.one_pass else FLOAT32, model=args.model,
                calibration=args.calibration, quantized=is_quantized(args.model),
                detector_model=args.detector_model, label=f"_{boxes}" if len(args.boxes) > 1 else "",
                flip=not args.no_flip, cluster=cluster_of(args),
                one_pass=args.one_pass and not (args.validate and choice.target == REFERENCE),
                options=choice.options)
            for boxes in args.boxes for choice in choices for batch in args.batch]
    problems = dict.fromkeys(problem for job in jobs for problem in
                             [*problems_of(job), *([] if args.demo else calibration_problems(job))])
    if problems:
        raise UserError(". ".join(problems))
    return share_people(jobs)


def cluster_of(args: argparse.Namespace) -> Tuple[str, ...]:
    """The options of cluster/parts.py."""
    workers = ("--workers", str(args.workers)) if args.workers else ()
    return (*workers, args.distributed) if args.distributed else ()


def cluster_problems(job: Job) -> List[str]:
    if not job.cluster:
        return []
    found = [] if not not_importable({"ray": "ray"}) else \
        ["--distributed needs the Python package ray: REQUIREMENTS=requirements-distributed.txt bash scripts/setup.sh"]
    if job.runner == "ais_bench":
        found.append("--distributed: ais_bench takes no part of a folder. Add --runner acl")
    if re.search(r"[1-9,]", job.options.get("device", "")):
        found.append(f"--device {job.options['device']} with --distributed: Ray chooses the devices. Leave it out")
    return found


def problems_of(job: Job) -> List[str]:
    found, room = [*check_options(job), *cluster_problems(job)], room_of(job.target, job.runner)
    models = room.MODELS
    for option, file in (("model", job.model), ("detector_model", job.detector_model)):
        if file and file.suffix not in models:
            found.append(f"--{option} {file}: {job.target} with {job.runner} runs "
                         f"{' and '.join(models) or 'no model files, but the checkpoint and the weights'}")
    found += one_pass_problems(job)
    missing = missing_packages(job) if not found else []
    if missing:
        found.append(f"{job.target} needs the Python packages {', '.join(missing)}, which are not installed"
                     + (f": {room.INSTALL}" if hasattr(room, "INSTALL") else ""))
    elif not found and job.model and job.model.suffix == ".onnx" and not getattr(room, "ANY_BATCH", False):
        found += model_problems(job.model, job)
    return found


def one_pass_problems(job: Job) -> List[str]:
    found = []
    if job.one_pass and not getattr(room_of(job.target, job.runner), "ONE_PASS", False):
        found.append(f"--one_pass: not for {job.target} with {job.runner}")
    if job.one_pass and job.precision == INT8 and without_int8(job.target) not in ONE_PASS_INT8:
        found.append(f"--one_pass in int8: not for {job.target}, but for {' and '.join(ONE_PASS_INT8)}")
    elif job.one_pass and job.model and is_calibrated(job):
        found.append(f"--model {job.model}: int8 of one pass is made of the checkpoint. Leave --model out, or name a "
                     "file that is int8 already")
    return found


def is_quantized(model: Optional[Path]) -> bool:
    """Whether an ONNX file is int8, in any form."""
    if model is None or model.suffix != ".onnx" or not model.is_file():
        return False
    facts = read_facts(model)
    return facts.quantized or facts.deployed


def is_calibrated(job: Job) -> bool:
    """Whether int8 is made in this job."""
    return job.precision == INT8 and not job.quantized and (job.model is None or job.model.suffix == ".onnx")


def calibration_problems(job: Job) -> List[str]:
    """What is missing to make int8 in this job."""
    photos = job.calibration
    if not is_calibrated(job) or photos is None:
        return []
    if not photos.is_dir():
        return [f"int8 is calibrated on photos that are not scored, and there are none in {photos}. Name a folder of "
                "photos, or of bins of preprocess.py, with --calibration"]
    missing = [f"{file} (--{name})" for name, file in (("weights", job.weights), ("yolo_cfg", job.yolo_cfg))
               if not file.is_file()]
    return [f"int8 finds people on the photos of {photos}, and {', '.join(missing)} is not there. Give it, or bins "
            "with --calibration"] if missing and job.calibration_bins(job.dtype) != photos else []


def model_problems(model: Path, job: Job) -> List[str]:
    """Of an ONNX file that takes another batch size, or is of one pass and not asked so; other files tell theirs to
    their own tools alone."""
    from contract.onnx_file import load_onnx, only_input
    from contract.spec import KEYPOINTS

    content = load_onnx(model, weights=False)
    fixed = only_input(content, model).type.tensor_type.shape.dim[0].dim_value
    found = [] if fixed in (0, job.batch) else [f"--model {model} takes batches of {fixed}, but --batch is {job.batch}"]
    if (content.graph.output[0].name == KEYPOINTS) != job.one_pass:
        found.append(f"--model {model} gives " + ("heatmaps: leave out --one_pass" if job.one_pass else
                                                  "keypoints: add --one_pass"))
    return found


def share_people(jobs: List[Job]) -> List[Job]:
    """All jobs use the people that the first job finds, so that all get the same bytes."""
    finders = [job for job in jobs if not job.annotated and not job.detections]
    if len(finders) < 2:
        return jobs
    first = finders[0]
    return [dataclasses.replace(job, detections=people_of(first)) if job in finders[1:] else job for job in jobs]


def machine_checks(jobs: List[Job]) -> List[Stage]:
    """One for each target."""
    return list(dict.fromkeys(stage for job in jobs for stage in room_of(job.target, job.runner).check(job)))


def render(args: argparse.Namespace, *options: object) -> List[Stage]:
    """The photos of the demo."""
    if not args.demo:
        return []
    return [stage("-m", "demo.render", "--output", args.dataroot, *options, leaves=(args.dataroot,))]


def render_calibration(args: argparse.Namespace, jobs: Sequence[Job]) -> List[Stage]:
    """Other photos of the demo, if int8 is calibrated on them."""
    if args.calibration != DEMO_CALIBRATION / PHOTOGRAPHS or not any(map(is_calibrated, jobs)):
        return []
    return [stage("-m", "demo.render", "--output", DEMO_CALIBRATION, "--seed", CALIBRATION_SEED,
                  leaves=(DEMO_CALIBRATION,))]
