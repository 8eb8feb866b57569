"""The stages of a job on NVIDIA GPUs with TensorRT's Python package, or with trtexec."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from backends.tensorrt.options import ROOM
from contract.stage import Stage, stage

if TYPE_CHECKING:
    from jobs.job import Job

ENGINE = ".engine"
MODELS = (ENGINE, ".onnx")  # files that --model may name; an engine is built of the latter
TRTEXEC = "trtexec"  # the runner that needs no Python package
ONE_PASS = True  # models that find the joints themselves
PRECISIONS = ("fp32", "fp16", "int8")


def options(target: str) -> Dict[str, Sequence[str]]:
    return {"device": (), "precision": PRECISIONS}


def missing_packages(runner: str) -> List[str]:
    return [] if runner == TRTEXEC else ROOM.missing_packages()


def precision(job: Job) -> str:
    return job.precision or "fp16"


def check(job: Job) -> List[Stage]:
    return [stage("-m", "backends.tensorrt.check", "--precision", precision(job), "--device",
                  job.options.get("device", "0"), *(("--trtexec",) if job.runner == TRTEXEC else ()))]


def find_people(job: Job) -> List[Stage]:
    """With trtexec preprocess.py finds them with the weights: a process for each photo would take longer."""
    if job.runner == TRTEXEC:
        return []
    of = precision(job).replace("int8", "fp32")  # int8 blurs coordinates, and fp16 of TensorRT 11 needs ModelOpt
    engine = _engine(job, job.detector_onnx, of)
    built = [] if engine == job.detector_onnx else [build_engine(of, job.detector_onnx, engine, job.first_device)]
    return [*job.export_detector(), *built, job.detect("tensorrt", "--device", job.first_device, model=engine)]


def build(job: Job) -> List[Stage]:
    engine = _pose_engine(job)
    if engine == job.model:
        return []
    onnx, made = _pose_onnx(job)
    alone = ("--trtexec", "run") if job.runner == TRTEXEC else ()
    return [*job.export(job.dtype), *made, build_engine(precision(job), onnx, engine, job.first_device, *alone)]


def run(job: Job, mirrored: bool) -> Stage:
    program = ("-m", "backends.tensorrt.trtexec_run") if job.runner == TRTEXEC else \
        ("infer.py", "--backend", "tensorrt")
    return job.infer(program, _pose_engine(job), mirrored, "--batchsize", job.batch,
                     "--device", job.options.get("device", "0"))


def build_engine(of: str, onnx: Path, engine: Path, device: str, *more: object) -> Stage:
    return stage("-m", "backends.tensorrt.build", onnx, "--precision", of, "--output", engine, "--device",
                 device, *more, reads=(onnx,), leaves=(engine,))


def _pose_onnx(job: Job) -> Tuple[Path, Tuple[Stage, ...]]:
    """In int8 its precision is in the graph, which TensorRT 8.6 to 11 take alike."""
    return job.quantize("tensorrt", job.static_onnx(job.suffix), job.dtype)


def _pose_engine(job: Job) -> Path:
    model = job.static_onnx(job.suffix)
    return model if model.suffix == ENGINE else _engine(job, _pose_onnx(job)[0], precision(job))


def _engine(job: Job, model: Path, of: str) -> Path:
    """Of an ONNX file; an engine that was given is its own."""
    return model if model.suffix == ENGINE else job.models / f"{model.stem}_{of}{ENGINE}"
