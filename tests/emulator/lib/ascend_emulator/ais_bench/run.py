"""One process of ais_bench: session, output folder, warm-up, timed runs, summary."""
from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import time
from typing import Any, List, Optional

import aclruntime

from ..machine import machine
from .files import PURE, PURE_RANDOM, PURE_ZERO, group, pair_for_pipeline
from .log import detail, logger
from .paths import FOLDER_MODE, open_new
from .report import Report
from .runner import Runner, combines

LONGEST_WAIT = 10  # looks at the barrier, one a second
_KEPT: List[Any] = []  # sessions of the new generation: what it does not free stays loaded to the end


def found_version() -> Optional[str]:
    """Of the installed aclruntime; None where the package or setuptools, which looks for it, is absent."""
    installed = any(glob.glob(os.path.join(folder, "aclruntime-*.dist-info")) for folder in sys.path)
    return machine().aclruntime_version if machine().setuptools and installed else None


def check_version_old(args: Any) -> None:
    version = found_version()
    if version in (None, "0.0.1"):
        place = "ais-bench_workload/tool/ais_bench"
        logger.warning(f"aclruntime version:{version} is lower please update aclruntime follow any one method")
        logger.warning(f"1. visit https://github.com/Ascend/tools/tree/master/{place} to install")
        logger.warning("2. or run cmd: pip3  install -v --force-reinstall 'git+https://github.com/Ascend/tools.git"
                       f"#egg=aclruntime&subdirectory={place}/backend' to install")
        args.run_mode = "tensor"


def check_version_new(args: Any) -> None:
    """Where no version is found it ends with UnboundLocalError, as the real one does."""
    if found_version() is not None:
        aclruntime_version = found_version()
    else:
        logger.warning("can't find aclruntime, please visit gitee ait to install ais_bench(benchmark)")
        args.run_mode = "tensor"
    if aclruntime_version != "0.0.2":
        logger.warning(f"aclruntime{aclruntime_version} version is lower please update {' ' * 24}"
                       "aclruntime follow any one method")
        args.run_mode = "tensor"


def write_acl_json(args: Any) -> None:
    """What --profiler and --dump tell acl; nothing of either is emulated but this file and the folder in it."""
    if args.acl_json_path is not None or not (args.profiler or args.dump):
        return
    kind = "profiler" if args.profiler else "dump"
    folder, path = os.path.join(args.output, kind), os.path.join(args.output, "acl.json")
    if not os.path.exists(folder):
        os.makedirs(folder, FOLDER_MODE if args.new else 0o755)
    settings = {"profiler": {"switch": "on", "aicpu": "on", "output": folder, "aic_metrics": ""},
                "dump": {"dump_path": folder, "dump_mode": "all",
                         "dump_list": [{"model_name": os.path.basename(args.model).split(".")[0]}]}}
    with open_new(path) if args.new else open(path, "w") as file:
        json.dump({kind: settings[kind]}, file, indent=4, separators=(", ", ": "), sort_keys=True)


def open_session(args: Any) -> Any:
    write_acl_json(args)
    options = aclruntime.session_options()
    options.log_level, options.loop = (1 if args.debug else 2), args.loop
    session = aclruntime.InferenceSession(args.model, args.device, options)
    if args.new:
        _KEPT.append(session)
    set_shape(session, args)
    if args.batchsize is None:
        args.batchsize = model_batch(session, args)
        logger.info(f"try get model batchsize:{args.batchsize}")
    automatic = args.auto_set_dymshape_mode or args.auto_set_dymdims_mode
    if args.new and not automatic and args.batchsize < 0 and not (args.dym_batch or args.dym_dims or args.dym_shape):
        raise RuntimeError("dynamic batch om model detected, but dymbatch, dymdims or dymshape not set!")
    if args.new:
        logger.debug("aipp_input_exist: 0")
    if args.output_size is not None:
        logger.debug(f"set customsize:{[int(size) for size in args.output_size.split(',')]}")
        session.set_custom_outsize([int(size) for size in args.output_size.split(",")])
    logger.debug(f"session info:{session}")
    return session


def set_shape(session: Any, args: Any) -> None:
    if args.dym_batch != 0:
        session.set_dynamic_batchsize(args.dym_batch)
    elif args.dym_hw is not None:
        sizes = args.dym_hw.split(",")
        session.set_dynamic_hw(int(sizes[0]), int(sizes[1]))
    elif args.dym_dims is not None:
        session.set_dynamic_dims(args.dym_dims)
    elif args.dym_shape is not None:
        session.set_dynamic_shape(args.dym_shape)
    else:
        session.set_staticbatch()


def model_batch(session: Any, args: Any) -> int:
    first = session.get_inputs()[0]
    if args.dym_batch != 0:
        return int(args.dym_batch)
    for part in (args.dym_dims or args.dym_shape or "").split(";"):
        name, _, shape = part.rpartition(":")
        if name == first.name:
            return int(shape.split(",")[0])
    return first.shape[0]


def output_folder(args: Any, place: str = "") -> Optional[str]:
    """Made when it is not there; `place` is the folder of a device (new generation)."""
    if args.output is None:
        return None
    name = args.output_dirname if args.output_dirname is not None else time.strftime("%Y_%m_%d-%H_%M_%S")
    folder = os.path.join(args.output, name, place) if place else os.path.join(args.output, name)
    if not os.path.exists(folder):
        os.makedirs(folder, FOLDER_MODE if args.new else 0o755)
    if args.new:
        os.chmod(args.output, FOLDER_MODE)
    logger.info(f"output path:{folder}")
    return folder


def list_runs(args: Any, tensors: List[Any]) -> List[Any]:
    if args.input is None and args.pipeline:
        return [[PURE_ZERO if args.pure_data_type == "zero" else PURE_RANDOM] * len(tensors)]
    if args.input is None:
        return [[[PURE] for _ in tensors]]
    inputs = args.input.split(",")  # a device without a share gets "", which is no input file
    return pair_for_pipeline(inputs, tensors) if args.pipeline else group(inputs, tensors, combines(args), args.new)


def wait_for_others(index: int, queue: Any, count: int) -> None:
    """A barrier that looks once a second and gives up."""
    logger.info(f"subprocess_{index} qsize:{queue.qsize()} now waiting")
    queue.put(index)
    looks = 0
    while queue.qsize() < count:
        looks += 1
        if looks > LONGEST_WAIT:
            logger.warning(f"subprocess_{index} qsize:{queue.qsize()} time:{looks} s elapsed")
            break
        time.sleep(1)
    logger.info(f"subprocess_{index} qsize:{queue.qsize()} ready to infer run")


def power(card: int) -> float:
    """Watts, as npu-smi tells them now."""
    done = subprocess.run(["npu-smi", "info", "-t", "power", "-i", str(card)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"Invalid npu id:{card}, exec cmd: 'npu-smi info' to check valid npu_id")
    return float(next(line for line in done.stdout.splitlines() if "Power Dissipation(W)" in line).rpartition(":")[2])


def run_process(args: Any, index: int = 0, queue: Any = None, place: str = "") -> None:
    """`queue` is there in a child of a run on several devices."""
    if queue is not None:
        logger.info(f"subprocess_{index} main run")
    if args.debug:
        logger.setLevel("DEBUG")
        detail.setLevel("INFO" if args.new else "DEBUG")
    report = Report()
    session = open_session(args)
    others = [open_session(args) for _ in range(args.threads - 1)] if args.pipeline else []
    runner = Runner(session, args, report)
    folder = output_folder(args, place)
    runs = list_runs(args, runner.tensors)
    first = [[path] for path in runs[0]] if args.pipeline else runs[0]
    runner.warm_up(first)
    for other in others:
        Runner(other, args, report).warm_up(first)
    if queue is not None:
        wait_for_others(index, queue, args.subprocess_count)
    start, measured = time.time(), args.new and args.energy_consumption
    watts = [power(args.npu_id)] if measured else []
    if args.pipeline:
        runner.run_pipeline(runs, folder, others)
    else:
        runner.run_all(runs, folder)
    watts += [power(args.npu_id)] if measured else []
    end = time.time()
    throughput = report.write(args.batchsize, times_of(session, args), folder, args)
    if measured:
        logger.info(f"NPU ID:{args.npu_id} energy consumption(J):{sum(watts) / len(watts) * (end - start)}")
    if queue is not None:
        queue.put([index, throughput, start, end])
    close(session, others, args.new)


def times_of(session: Any, args: Any) -> dict:
    executions = session.sumary().exec_time_list
    if args.new and not (args.pipeline and args.threads > 1):
        executions = [end - start for start, end in executions]
    copies = aclruntime.MemorySummary()
    return {"NPU_compute_time": list(executions), "H2D_latency": copies.H2D_time_list,
            "D2H_latency": copies.D2H_time_list}


def close(session: Any, others: List[Any], new: bool) -> None:
    if not new:
        session.finalize()
        return
    for one in [session, *others]:
        one.free_resource()
    aclruntime.InferenceSession.finalize()
