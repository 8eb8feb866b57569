"""The stages of a job on Ascend NPUs, with ais_bench or pyACL."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from ascend import cann
from ascend.options import ROOM
from ascend.precision import PRECISION_MODES
from contract.pixels import FLOAT32
from contract.room import INT8
from contract.stage import Stage, stage

if TYPE_CHECKING:
    from jobs.job import Job

OM = ".om"
MODELS = (OM, ".onnx")  # files that --model may name; an .om is built of the latter
ONE_PASS = True  # models that find the joints themselves


def options(target: str) -> Dict[str, Sequence[str]]:
    return {"device": (), "gears": (), "precision": (INT8,), "precision_mode": PRECISION_MODES}


def missing_packages(runner: str) -> List[str]:
    """Of the python3 on PATH, with which ais_bench runs."""
    modules = cann.ask_python()["modules"] if runner == "ais_bench" else {}
    return [name for name in ("ais_bench", "aclruntime") if name in modules and not modules[name]]


def precision(job: Job) -> str:
    return job.precision or ROOM.words[job.options.get("precision_mode", "force_fp16")]


def check(job: Job) -> List[Stage]:
    model = ("--model", job.model) if job.model and job.model.suffix != OM else ()
    return [stage("-m", "ascend.doctor", "--soc_version", job.machine, "--device", job.options.get("device", "0"),
                  "--runner", job.runner, *model)]


def find_people(job: Job) -> List[Stage]:
    onnx, om = job.detector_onnx, job.detector_onnx.with_suffix(OM)
    built = [] if om == onnx else [_build_om(job, onnx, om)]
    return [*job.export_detector(), *built, job.detect("acl", "--device", job.first_device, model=om)]


def build(job: Job) -> List[Stage]:
    source, om, sizes = _sources(job)
    if om == source:
        return []
    bytes_in = ("--uint8",) if job.suffix else ()
    return [*job.export(), *_int8(job)[1], _build_om(job, source, om, *sizes, *bytes_in)]


def run(job: Job, mirrored: bool) -> Stage:
    program = ("infer.py", "--backend", "acl") if job.runner == "acl" else ("-m", "ascend.ais_bench")
    return job.infer(program, _sources(job)[1], mirrored, "--batchsize", job.batch, "--device",
                     job.options.get("device", "0"))


def _sources(job: Job) -> Tuple[Path, Path, Tuple[object, ...]]:
    """The ONNX file, the .om of it, and for which batch sizes; of an .om that was given, that alone."""
    if job.model and job.model.suffix == OM:
        return job.model, job.model, ()
    models = job.models
    if "gears" in job.options:
        source = job.model or job.onnx
        return source, models / f"{source.stem}_gears{job.suffix}{job.variant}{OM}", ("--gears", job.options["gears"])
    source = _int8(job)[0]
    return source, models / f"{source.stem}{job.suffix}{job.variant}{OM}", ("--batch", job.batch)


def _int8(job: Job) -> Tuple[Path, Tuple[Stage, ...]]:
    """The ONNX file of this batch size, in int8 in the form that atc takes, and what makes that."""
    model = job.static_onnx()
    pairs, made = job.quantize("ascend", model, FLOAT32)
    if not made:
        return model, ()
    deployed = pairs.with_name(f"{model.stem}_deploy.onnx")
    return deployed, (*made, stage("-m", "ascend.quantize", pairs, deployed, reads=(pairs,), leaves=(deployed,)))


def _build_om(job: Job, onnx: Path, om: Path, *more: object) -> Stage:
    mode = job.options.get("precision_mode")
    precision = ("--precision_mode", mode) if mode else ()
    return stage("-m", "ascend.atc", onnx, "--soc_version", job.machine, "--output", om, *more, *precision,
                 reads=(onnx,), leaves=(om,))
