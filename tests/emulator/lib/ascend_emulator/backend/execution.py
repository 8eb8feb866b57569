"""One run of the backend: data sets, gear, as many executions as --loop says."""
from __future__ import annotations

import time
from typing import List, Optional, Tuple

from .. import acl
from . import console
from .failures import GENERAL, INVALID_PARAM, Failure, expect
from .tensors import DeviceMemory


def execute(model: int, inputs: List[Tuple[int, int]], sizes: List[int], gear: Optional[Tuple[int, int]], loop: int,
            old: bool) -> Tuple[List[DeviceMemory], List[Tuple[float, float]]]:
    """inputs: (address, size) of each. sizes: of the outputs. gear: (input, batch). Returns new memory of the outputs
    and the start and end (seconds) of each execution."""
    memory = [DeviceMemory(size) for size in sizes]
    sets = [_dataset(inputs), _dataset([(one.address, one.size) for one in memory])]
    try:
        if gear is not None:
            expect(acl.mdl.set_dynamic_batch_size(model, sets[0], *gear), "aclmdlSetDynamicBatchSize failed",
                   fails_with=INVALID_PARAM)
        return memory, _loop(model, sets, loop, old)
    finally:
        for dataset in sets:
            _destroy(dataset)


def _loop(model: int, sets: List[int], loop: int, old: bool) -> List[Tuple[float, float]]:
    times = []
    if loop > 1 and old:
        console.write("\n")
    for count in range(loop):
        start = time.time()
        try:
            expect(acl.mdl.execute(model, *sets), f"execute model failed, modelId is {model}", "acl execute failed:1",
                   fails_with=GENERAL)
        except Failure as failure:
            console.say(console.ERROR, f"Execute Infer failed ret:{failure.code}")
            raise
        times.append((start, time.time()))
        if loop > 1:
            console.write(f"\rloop inference exec: ({count + 1}/{loop})")
            console.flush()
    if loop > 1:
        console.write("\n")
    return times


def _dataset(buffers: List[Tuple[int, int]]) -> int:
    dataset = acl.mdl.create_dataset()
    for address, size in buffers:
        acl.mdl.add_dataset_buffer(dataset, acl.create_data_buffer(address, size))
    return dataset


def _destroy(dataset: int) -> None:
    for index in range(acl.mdl.get_dataset_num_buffers(dataset)):
        acl.destroy_data_buffer(acl.mdl.get_dataset_buffer(dataset, index))
    acl.mdl.destroy_dataset(dataset)
