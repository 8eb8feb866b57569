"""The stages of a job with PyTorch: the checkpoint itself on the CPU, or on CUDA where that is the target."""
from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Sequence

from backends.pytorch.options import ROOM
from contract.stage import Stage, stage

if TYPE_CHECKING:
    from jobs.job import Job

MODELS = ()  # it runs the checkpoint
ONE_PASS = True  # models that find the joints themselves
PRECISIONS = ("fp32", "fp16", "bf16")
GPU = "gpu"


def options(target: str) -> Dict[str, Sequence[str]]:
    """The options of the target. The CPU has none: there it is the baseline of all comparisons, in float32."""
    return {"device": (), "precision": PRECISIONS} if target == GPU else {}


def missing_packages(runner: str) -> List[str]:
    return ROOM.missing_packages()


def precision(job: Job) -> str:
    return job.options.get("precision", "fp16") if job.target == GPU else "fp32"


def check(job: Job) -> List[Stage]:
    if job.target != GPU:
        return []
    return [stage("-m", "backends.pytorch.check", *_options(job))]


def find_people(job: Job) -> List[Stage]:
    """The stages that find people. On the CPU preprocess.py does it."""
    if job.target != GPU:
        return []
    return [job.detect("pytorch", "--precision", precision(job), "--device",
                       job.first_device)]


def build(job: Job) -> List[Stage]:
    return []


def run(job: Job, mirrored: bool) -> Stage:
    return job.infer(("infer.py", "--backend", "pytorch"), job.checkpoint, mirrored, "--batchsize", job.batch,
                     *(_options(job) if job.target == GPU else ()),
                     *(("--one_pass", "flip" if job.flip else "no_flip") if job.one_pass else ()))


def _options(job: Job) -> Sequence[str]:
    return ("--precision", precision(job), "--device", job.options.get("device", "0"))
