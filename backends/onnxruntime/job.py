"""The stages of a job on this machine's CPU with ONNX Runtime."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from backends.onnxruntime.options import ROOM
from contract.room import FP32, INT8
from contract.stage import Stage

if TYPE_CHECKING:
    from jobs.job import Job

MODELS = (".onnx",)  # files that --model may name
ONE_PASS = True  # models that find the joints themselves


def options(target: str) -> Dict[str, Sequence[str]]:
    return {"precision": (FP32, INT8)}


def missing_packages(runner: str) -> List[str]:
    return ROOM.missing_packages()


def precision(job: Job) -> str:
    return job.precision or FP32


def check(job: Job) -> List[Stage]:
    return []


def find_people(job: Job) -> List[Stage]:
    """preprocess.py finds them with the weights; a model is for detect.py."""
    return [job.detect("onnxruntime", model=job.detector_model)] if job.detector_model else []


def build(job: Job) -> List[Stage]:
    return [*job.export(job.dtype), *_model(job)[1]]


def run(job: Job, mirrored: bool) -> Stage:
    return job.infer(("infer.py", "--backend", "onnxruntime"), _model(job)[0], mirrored, "--batchsize", job.batch)


def _model(job: Job) -> Tuple[Path, Tuple[Stage, ...]]:
    return job.quantize("cpu", job.static_onnx(job.suffix), job.dtype)
