"""trtexec: builds engines, and runs them with the files of --loadInputs and --exportOutput.

Flags are those of the release. As there, its exit code is not looked at by anybody, numbers of --exportOutput have six
digits, and without copies the output is what the memory held before.
"""
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, List

from . import plan
from .machine import machine

SWITCHES = {"noTF32", "useCudaGraph", "useSpinWait", "noDataTransfers", "stronglyTyped", "skipInference"}
UP_TO_10, FROM_11 = {"fp16", "int8", "calib"}, {"includeDataTransfers", "noCudaGraph", "noSpinWait"}
VALUES = {"onnx", "saveEngine", "loadEngine", "device", "shapes", "minShapes", "optShapes", "maxShapes", "loadInputs",
          "exportOutput", "exportTimes", "warmUp", "duration", "iterations", "memPoolSize", "timingCacheFile",
          "builderOptimizationLevel"}
DTYPES = {1: "float32", 2: "uint8"}  # of ONNX's TensorProto


class Refused(Exception):
    pass


def log(text: str, level: str = "I") -> None:
    print(f"[11/28/2026-10:11:12] [{level}] {text}")


def version_number() -> int:
    major, minor, patch = map(int, machine().tensorrt.split(".")[:3])
    return major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch


def parse(arguments: List[str]) -> Dict[str, str]:
    known = SWITCHES | VALUES | (UP_TO_10 if machine().major < 11 else FROM_11)
    flags = {}
    for argument in arguments:
        name, _, value = argument[2:].partition("=")
        if not argument.startswith("--") or name not in known:
            raise Refused(f"Unknown option: {argument}")
        flags[name] = value
    return flags


def build(flags: Dict[str, str]) -> bytes:
    here, content = machine(), Path(flags["onnx"]).read_bytes()
    kinds = sorted(name.upper() for name in ("fp16", "int8") if name in flags)
    facts = {"tensorrt": here.tensorrt, "gpu": here.gpu, "compute_capability": here.compute_capability, "profiles": [],
             "flags": kinds, "profile_sharing": True, "typed": "stronglyTyped" in flags, "int8_scales": None,
             "float32_layers": []}
    engine = bytes(plan.write(facts, content))
    log("Engine built in 1.0 sec.")
    if "saveEngine" in flags:
        Path(flags["saveEngine"]).write_bytes(engine)
    return engine


def load(path: str) -> bytes:
    try:
        content = Path(path).read_bytes()
        facts, _ = plan.read(content)
    except (OSError, plan.BadPlan) as error:
        raise Refused(f"Error deserializing engine: {error}") from None
    if facts["tensorrt"] != machine().tensorrt:
        raise Refused("Error Code 1: Serialization: the engine plan file is not compatible with this version of "
                      f"TensorRT, expecting library version {machine().tensorrt} got {facts['tensorrt']}")
    return content


def copies(flags: Dict[str, str]) -> bool:
    return "noDataTransfers" not in flags if machine().major < 11 else "includeDataTransfers" in flags


def read_input(flags: Dict[str, str], source: Any) -> Any:
    import numpy as np

    tensor = source.type.tensor_type
    shape = [size.dim_value for size in tensor.shape.dim]
    name, _, sizes = flags.get("shapes", "").rpartition(":")
    if name == source.name and not all(shape):
        shape = [int(size) for size in sizes.split("x")]
    dtype = np.dtype(DTYPES[tensor.elem_type])
    rows = np.random.default_rng(0).random(shape).astype(dtype)
    if "loadInputs" in flags:
        name, _, path = flags["loadInputs"].partition(":")
        content = Path(path).read_bytes()
        if name != source.name or len(content) < rows.nbytes or machine().major >= 10 and len(content) != rows.nbytes:
            raise Refused(f"Cannot use {path} ({len(content)} bytes) as {name}: {source.name} has {rows.nbytes}")
        rows = np.frombuffer(content[:rows.nbytes], dtype).reshape(shape)
    return rows


def run(engine: bytes, flags: Dict[str, str]) -> None:
    import onnx  # not for --help, which is asked for often

    from . import session

    model = onnx.load_model_from_string(plan.read(engine)[1])
    rows = read_input(flags, model.graph.input[0])
    network = session.session(plan.read(engine)[1])
    started = time.perf_counter()
    output, = network.run(None, {model.graph.input[0].name: rows})
    took = 1000 * (time.perf_counter() - started)
    if not copies(flags):
        output = 0 * output
    if "exportOutput" in flags:
        values = [float(f"{value:.6g}") for value in output.ravel().tolist()]
        Path(flags["exportOutput"]).write_text(json.dumps(
            [{"name": model.graph.output[0].name, "dimensions": "x".join(map(str, output.shape)), "values": values}]))
    tail = ", ".join(f"{name} = {took:.4f} ms" for name in ("min", "max", "mean", "median", "percentile(99%)"))
    log("=== Performance summary ===")
    log(f"Throughput: {1000 / took:.4f} qps")
    for name in ("Latency", "GPU Compute Time"):
        log(f"{name}: {tail}")


def main(arguments: List[str]) -> int:
    name = f"TensorRT.trtexec [TensorRT v{version_number()}] # trtexec {' '.join(arguments)}"
    print(f"&&&& RUNNING {name}")
    log("this is the emulator of the tests: the CPU runs engines in float32")
    if arguments == ["--help"]:
        return 0
    try:
        flags = parse(arguments)
        if not machine().devices:
            raise Refused("Cuda failure: no CUDA-capable device is detected")
        fault = machine().enter("trtexec")
        if fault is not None:
            raise Refused(fault.message)
        engine = build(flags) if "onnx" in flags else load(flags["loadEngine"])
        if "skipInference" not in flags:
            run(engine, flags)
    except Refused as error:
        log(str(error), "E")
        print(f"&&&& FAILED {name}")
        return 1
    print(f"&&&& PASSED {name}")
    return 0
