"""Several devices: a process each, a barrier, the sum of their throughputs; nothing is merged."""
from __future__ import annotations

import copy
import math
import os
import time
from multiprocessing import Manager, Pool
from typing import Any, List, Optional

from .files import chunks, list_folder
from .log import fail, logger
from .run import open_session, run_process


def shares(items: List[str], jobs: int, new: bool) -> List[List[str]]:
    """Contiguous parts: of ceil(n / jobs) in the old generation, balanced in the new one."""
    if new:
        ends = [number * (len(items) // jobs) + min(number, len(items) % jobs) for number in range(jobs + 1)]
        return [items[start:end] for start, end in zip(ends, ends[1:])]
    parts = [[path for path in part if path] for part in chunks(items, math.ceil(len(items) / jobs), None)]
    return parts + [[] for _ in range(jobs - len(parts))]


def divide(args: Any, jobs: int) -> List[str]:
    """The --input of each process; the parent opens device 0 and loads the model for it."""
    inputs, files = args.input.split(","), []
    if os.path.isfile(inputs[0]):
        files = inputs
    elif os.path.isdir(inputs[0]):
        for folder in inputs:
            files += list_folder(folder, args.new)
    else:
        raise fail(f"error {inputs[0]} not file or dir")
    args.device = 0
    session = open_session(args)
    per_input = math.ceil(len(files) / len(session.get_inputs()))
    parts: List[List[str]] = [[] for _ in range(jobs)]
    for chunk in chunks(files, per_input, None):
        for part, share in zip(parts, shares(chunk, jobs, args.new)):
            part += share
    return [",".join(filter(None, part)) for part in parts]


def say_failure(error: BaseException) -> None:
    logger.error(f"subprocess run failed error_callback:{error}")


def run_devices(args: Any) -> int:
    logger.info(f"multidevice:{args.device} run begin")
    devices = args.device
    pool, queue = Pool(len(devices)), Manager().Queue()
    args.subprocess_count = len(devices)
    inputs: Optional[List[str]] = None
    if args.input is not None and (args.divide_input or not args.new):
        inputs = divide(args, len(devices))
    for index, device in enumerate(devices):
        one = copy.deepcopy(args)
        one.device, place = int(device), ""
        if args.new and args.energy_consumption:
            one.npu_id = args.npu_id[index]  # the option is one number, so this is a TypeError in the real one too
        if inputs is not None:
            one.input = inputs[index]
        if args.new:
            place = f"device{device}_{index}"
        else:
            base = args.output_dirname if args.output_dirname is not None else time.strftime("%Y_%m_%d-%H_%M_%S")
            one.output_dirname = os.path.join(base, f"device{device}")
        pool.apply_async(run_process, args=(one, index, queue, place), error_callback=say_failure)
    pool.close()
    pool.join()
    result = 0 if queue.qsize() == 2 * len(devices) else 1
    logger.info(f"multidevice run end qsize:{queue.qsize()} result:{result}")
    report(devices, queue, args.new)
    return result


def report(devices: List[int], queue: Any, new: bool) -> None:
    total = []
    while queue.qsize():
        entry = queue.get()
        if isinstance(entry, list):
            index, throughput, start, end = entry
            head = f"i:{index} device_{devices[index]} throughput:{throughput} "
            tail = f"start_time:{start} end_time:{end}"
            if new:
                logger.info(head + " " * 16 + tail)
            else:
                print(head + tail)
            total.append(throughput)
    logger.info(f"summary throughput:{sum(total)}")
