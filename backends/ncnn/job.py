"""The stages of a job on this machine's CPU with ncnn. One .param serves every batch size."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Sequence

from backends.ncnn.options import ROOM
from contract.packages import not_importable
from contract.pixels import FLOAT32
from contract.stage import Stage, stage

if TYPE_CHECKING:
    from jobs.job import Job

PARAM = ".param"
MODELS = (PARAM, ".onnx")  # files that --model may name; a .param is made of the latter
ANY_BATCH = True  # also of a file for one image: ncnn takes one after another
PACKAGES = {**ROOM.packages, "pnnx": "pnnx"}
INSTALL = ROOM.install
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
OF_THE_FILE = {"fp32": "fp32", "fp16": "fp16", "bf16": "fp32", "int8": "fp32"}  # what pnnx stores the weights in


def options(target: str) -> Dict[str, Sequence[str]]:
    return {"device": ("cpu",), "precision": PRECISIONS}


def missing_packages(runner: str) -> List[str]:
    return not_importable(PACKAGES)


def precision(job: Job) -> str:
    return job.precision or "fp32"


def check(job: Job) -> List[Stage]:
    return []


def find_people(job: Job) -> List[Stage]:
    """preprocess.py finds them with the weights; a model is for detect.py."""
    return [job.detect("ncnn", model=job.detector_model)] if job.detector_model else []


def build(job: Job) -> List[Stage]:
    if job.model and job.model.suffix == PARAM:
        return []
    onnx, stored = job.model or job.onnx, _param(job, OF_THE_FILE[precision(job)])
    stages = [*job.export(), stage("-m", "backends.ncnn.build", onnx, stored, "--precision",
                                   OF_THE_FILE[precision(job)], reads=(onnx,), leaves=(stored,))]
    if precision(job) == "int8":
        int8 = _param(job, "int8")
        bins = job.calibration_bins(FLOAT32)
        stages += [*job.calibrate(FLOAT32), stage("-m", "backends.ncnn.quantize", stored, int8, "--calibration", bins,
                                                  "--cfg", job.cfg, reads=(stored, bins), leaves=(int8,))]
    return stages


def run(job: Job, mirrored: bool) -> Stage:
    of = precision(job)
    param = job.model if job.model and job.model.suffix == PARAM else \
        _param(job, of if of == "int8" else OF_THE_FILE[of])
    arithmetic = ("--precision", of) if of != "int8" else ()
    return job.infer(("infer.py", "--backend", "ncnn"), param, mirrored, "--batchsize", job.batch, *arithmetic)


def _param(job: Job, of: str) -> Path:
    return job.models / f"{job.name}_{of}{PARAM}"
