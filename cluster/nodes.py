"""Ray, the machines of its cluster, and whether all of them can do the job."""
from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import sys
from typing import Any, Dict, Iterable, List, Optional, Tuple

from backends.rooms import import_backend, room
from contract.errors import UserError, note
from contract.onnx_file import sha256_of_model
from contract.progress import LINES

NPU, GPU = "NPU", "GPU"  # resources of Ray
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in the environment of what ray job submit starts, and whose log it shows


def import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise UserError(f"--distributed needs the Python package {error.name}: "
                        "REQUIREMENTS=requirements-distributed.txt bash scripts/setup.sh") from None
    return ray


def connect(ray: Any, where: str) -> None:
    """Start Ray on this machine (local), or join the cluster that this machine or a job of Ray belongs to (auto)."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns of what Ray Data itself does
    if os.environ.get(JOB):
        os.environ.setdefault(LINES, "1")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options = {"address": "local", "include_dashboard": False} if where == "local" else {"address": "auto"}
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except ConnectionError:
        raise UserError("--distributed auto: no Ray cluster here. Start one with ray start --head, or use ray job "
                        "submit, or --distributed local") from None


def needs_of(ray: Any, backend: str, device: Optional[str], workers: Optional[int]) -> Tuple[int, Dict[str, Any]]:
    """How many workers there will be, and what each asks Ray for: an NPU or a GPU, and CPUs. Ray shows a worker its NPU
    or GPU as the only one, number 0, and the number of its CPUs as OMP_NUM_THREADS. Unless `workers` says otherwise
    there is one for each NPU or GPU; else one per machine, since the threads of one worker use all its CPUs."""
    there = [node["Resources"] for node in alive(ray)]
    if backend in ("acl", "tensorrt") or backend == "pytorch" and str(device).isdigit() \
            or str(device).startswith("cuda"):
        kind, needs = (NPU, {"resources": {NPU: 1}}) if backend == "acl" else (GPU, {"num_gpus": 1})
        with_one = [resources for resources in there if resources.get(kind)]
        if not with_one:
            known = ", ".join(sorted(ray.cluster_resources()))
            raise UserError(f"no machine of the cluster has the resource {kind}; there are {known}. docs/scale.md says "
                            "how Ray is started where it does not find one by itself")
        return workers or int(sum(resources[kind] for resources in with_one)), \
            {**needs, **cpus_for_each(with_one, kind)}
    workers = workers or len(there)
    cpus: int = min(int(resources.get("CPU", 1)) for resources in there)
    share = cpus * len(there) / workers
    return workers, {"num_cpus": min(cpus, int(share)) if share >= 1 else share}


def cpus_for_each(machines: List[Dict[str, float]], kind: str) -> Dict[str, int]:
    """What each NPU or GPU can have of the CPUs of every machine; nothing where that is less than one."""
    share: int = min(int(resources.get("CPU", 0) // resources[kind]) for resources in machines)
    return {"num_cpus": share} if share else {}


def kind_of(needs: Dict[str, Any]) -> Optional[str]:
    return NPU if "resources" in needs else GPU if "num_gpus" in needs else None


def alive(ray: Any) -> List[Dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def facts_of(backends: Iterable[str], files: Dict[str, str]) -> Dict[str, Any]:
    """What has to be the same on every machine: versions, and the content of files by what they are called. Runs
    there."""
    import cv2
    import numpy

    facts = {"Python": ".".join(map(str, sys.version_info[:2])), "numpy": numpy.__version__, "OpenCV": cv2.__version__,
             "processor": platform.machine()}
    try:
        for backend in backends:
            import_backend(backend)
            facts[f"backend {backend}"] = " ".join(map(version_of, room(backend).packages.values()))
        facts.update({name: what_is_at(path) for name, path in files.items()})
    except (UserError, OSError) as error:
        facts["problem"] = str(error)
    return facts


def version_of(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:  # one that pip has not installed, as acl
        return package


def what_is_at(path: str) -> str:
    if os.path.isdir(path):
        return f"the folder {path}"
    return sha256_of_model(path) if os.path.exists(path) else "not there"


def check_nodes(ray: Any, needs: Dict[str, Any], backends: Iterable[str], files: Dict[str, str]) -> None:
    """Every machine that may get a worker has the same facts as this one. Raises UserError that names the first that
    has not."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0)(facts_of)
    kind = kind_of(needs)
    nodes = [node for node in alive(ray) if kind is None or node["Resources"].get(kind)]
    answers = [task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
               .remote(backends, files) for node in nodes]
    here = facts_of(backends, files)
    for node, answer in zip(nodes, answers):
        machine = f"machine {node['NodeManagerAddress']}"
        try:
            facts = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            raise UserError(f"{machine}: {error.cause}. Give every machine the same packages and files") from None
        except ray.exceptions.RayError:  # it was lost a moment ago, and gets no worker
            continue
        different = [key for key in {**here, **facts} if here.get(key) != facts.get(key)]
        if different:
            key = different[-1]
            raise UserError(f"{machine}: {key} is {facts.get(key)}, here it is {here.get(key)}. Give every machine the "
                            "same packages and files")
    note(f"machines: {len(nodes)}, all with the same packages and files")
