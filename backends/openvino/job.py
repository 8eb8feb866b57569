"""The stages of a job on Intel's CPUs, GPUs and NPUs with OpenVINO."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from backends.openvino.options import ROOM
from contract.room import BF16, FP16, FP32, INT8
from contract.stage import Stage

if TYPE_CHECKING:
    from jobs.job import Job

MODELS = (".onnx", ".xml")  # files that --model may name
ONE_PASS = True  # models that find the joints themselves
INSTALL = ROOM.install


def options(target: str) -> Dict[str, Sequence[str]]:
    return {"device": ("cpu", "GPU", "NPU"), "precision": (FP32, BF16, FP16, INT8), "float_layers": (FP32, BF16, FP16)}


def missing_packages(runner: str) -> List[str]:
    return ROOM.missing_packages()


def precision(job: Job) -> str:
    return job.precision or FP32


def check(job: Job) -> List[Stage]:
    return []


def find_people(job: Job) -> List[Stage]:
    """preprocess.py finds them with the weights; a model is for detect.py."""
    return [job.detect("openvino", model=job.detector_model)] if job.detector_model else []


def build(job: Job) -> List[Stage]:
    return [*job.export(job.dtype), *_model(job)[1]]


def run(job: Job, mirrored: bool) -> Stage:
    arithmetic = job.options.get("float_layers", FP32) if precision(job) == INT8 else precision(job)
    return job.infer(("infer.py", "--backend", "openvino"), _model(job)[0], mirrored, "--batchsize", job.batch,
                     "--precision", arithmetic, "--device", job.options.get("device", "cpu"))


def _model(job: Job) -> Tuple[Path, Tuple[Stage, ...]]:
    return job.quantize("cpu", job.static_onnx(job.suffix), job.dtype)
