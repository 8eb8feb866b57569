"""NAME.engine.json: how an engine was built, and whether it belongs here.

An engine works only with the release of TensorRT and the compute capability that it was built with. TensorRT has no
call that says so without loading it, so the builder writes it down. The file is one JSON object:

    tensorrt, gpu, compute_capability, cuda_driver, cuda_runtime   of the machine that built it, see `describe_machine`
    emulated               whether that was the emulator of the tests
    onnx, onnx_sha256      name and digest of the model
    input                  name of its input
    precision, tf32        fp32, fp16 or int8; whether float32 layers may round their factors to 10 bits
    profile                [min, opt, max] batch, three times the same where it takes one
    builder_flags          names of BuilderFlag that were set
    calibration            where the ranges of int8 are from, null elsewhere
    build_seconds
    command                what builds it again, run in the repository's root
    engine_sha256          of the engine, which `write` adds
"""
from __future__ import annotations

import os
from typing import Any, Dict

from backends.tensorrt import bindings, cuda
from contract.errors import UserError
from contract.files import PathLike, read_json, sha256_of_file, write_json

SUFFIX = ".json"  # appended to the engine's name
NEEDED = ("tensorrt", "compute_capability", "gpu", "command", "engine_sha256")  # by `check`
BUILD = "python3 -m backends.tensorrt.build MODEL.onnx"


def path_of(engine: PathLike) -> str:
    return os.fspath(engine) + SUFFIX


def describe_machine(tensorrt: Any, device: int) -> Dict[str, Any]:
    gpu = cuda.describe_gpu(device)
    return {"tensorrt": tensorrt.__version__, "gpu": gpu.name, "compute_capability": gpu.compute_capability,
            "cuda_driver": cuda.version("Driver"), "cuda_runtime": cuda.version("Runtime"),
            "emulated": bindings.is_emulated(tensorrt)}


def write(engine: PathLike, facts: Dict[str, Any]) -> None:
    """Write the record beside an engine that is already written."""
    write_json(path_of(engine), {**facts, "engine_sha256": sha256_of_file(engine)})


def read(engine: PathLike) -> Dict[str, Any]:
    """The record. It is empty if nothing is known about the engine: trtexec writes no such file."""
    path = path_of(engine)
    if not os.path.exists(path):
        return {}
    facts = read_json(path, "build record")
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), str) for key in NEEDED):
        raise UserError(f"{path}: expected an object with {', '.join(NEEDED)}. Remove it, or build the engine again: "
                        f"{BUILD}")
    return facts


def check(engine: PathLike, facts: Dict[str, Any], machine: Dict[str, Any]) -> None:
    """Refuse an engine that does not belong on this machine, with the command that builds the one that does.

    Another GPU of the same compute capability is let through: TensorRT takes its engines, if not always at full speed.
    """
    if not facts:
        return
    if facts["engine_sha256"] != sha256_of_file(engine):
        raise UserError(f"{engine}: is not the engine that {path_of(engine)} describes. Remove that file if the engine "
                        f"was built by other means, or build it again: {facts['command']}")
    if facts.get("emulated", machine["emulated"]) != machine["emulated"]:
        maker, here = ("the emulator of the tests", "a real one") if facts["emulated"] else ("TensorRT", "emulated")
        raise UserError(f"{engine}: {maker} built it, and the GPU here is {here}. Build it here: {facts['command']}")
    for what, key in (("TensorRT", "tensorrt"), ("compute capability", "compute_capability")):
        if facts[key] != machine[key]:
            raise UserError(f"{engine}: built by TensorRT {facts['tensorrt']} for compute capability "
                            f"{facts['compute_capability']} ({facts['gpu']}), but here {what} is {machine[key]} "
                            f"({machine['gpu']}). Build it here: {facts['command']}")
