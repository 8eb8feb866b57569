"""A network on a CUDA device: pinned copies beside the computing, and a CUDA graph for each batch size."""
from __future__ import annotations

import queue
import sys
import threading
from typing import Callable, Dict, List, Optional

import numpy as np
import torch
from torch import Tensor

SLOTS = 2  # batches in flight: one is copied in or out while the other is computed


class Batch:
    """Memory of one batch size. A graph is bound to the addresses of `input` and `output`, so these stay."""

    def __init__(self, rows: Tensor, device: torch.device):
        self.host_input, self.input = pinned(rows, device), torch.empty_like(rows, device=device)
        self.output: Optional[Tensor] = None
        self.host_output: Optional[Tensor] = None
        self.graph: Optional[torch.cuda.CUDAGraph] = None


class Slot:
    """One batch in flight: a stream for its copies, memory for each batch size, and a pool for the graphs of these."""

    def __init__(self, device: torch.device):
        self.copies = torch.cuda.Stream(device)
        # One pool for all sizes: they never run at once, and each output is copied before the next of the slot runs.
        self.pool = torch.cuda.graph_pool_handle()
        self.batches: Dict[int, Batch] = {}


class CudaRunner:
    """`forward`, which takes and gives tensors on `device`, for contiguous rows on the host.

    SLOTS threads may call it at once: one batch is copied in or out while another is computed, and all are computed on
    one stream. The first batch of a size runs without a graph and so loads what a capture needs; then its graph is
    captured, and the next ones replay it. `capturing` turns False, for good, when that fails. `times` has the
    milliseconds that each batch took on the device, copies left out.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], device: torch.device, capturing: bool):
        self.forward, self.device, self.capturing = forward, device, capturing
        torch.cuda.synchronize(device)  # the weights must have arrived: another stream does not wait for them
        self.stream, self.turn = torch.cuda.Stream(device), threading.Lock()
        self.free: queue.SimpleQueue = queue.SimpleQueue()  # in turns: as many warm-ups as slots reach each of them
        for _ in range(SLOTS):
            self.free.put(Slot(device))
        self.times: List[float] = []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        slot = self.free.get()
        try:
            with torch.inference_mode(), torch.cuda.device(self.device):
                if len(rows) in slot.batches:
                    return self._run(slot, slot.batches[len(rows)], rows)
                with torch.cuda.stream(slot.copies):
                    batch = Batch(torch.from_numpy(rows), self.device)
                outputs = self._run(slot, batch, rows)
                with self.turn:
                    if self.capturing:
                        self._capture(slot, batch)
                slot.batches[len(rows)] = batch  # only now: a size that does not fit leaves nothing behind
                return outputs
        finally:
            self.free.put(slot)

    def _run(self, slot: Slot, batch: Batch, rows: np.ndarray) -> np.ndarray:
        batch.host_input.copy_(torch.from_numpy(rows))
        arrived, started, finished = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        with torch.cuda.stream(slot.copies):
            batch.input.copy_(batch.host_input, non_blocking=True)
            arrived.record()
        with self.turn, torch.cuda.stream(self.stream):
            self.stream.wait_event(arrived)
            started.record()
            if batch.graph is not None:
                batch.graph.replay()
            else:
                batch.output = self.forward(batch.input)
            finished.record()
        assert batch.output is not None  # a graph was captured with one
        if batch.host_output is None:
            batch.host_output = pinned(batch.output, self.device)
        with torch.cuda.stream(slot.copies):
            slot.copies.wait_event(finished)
            batch.host_output.copy_(batch.output, non_blocking=True)
            slot.copies.synchronize()
        self.times.append(started.elapsed_time(finished))
        return batch.host_output.numpy().copy()  # the caller's to keep: the pinned memory is used again

    def _capture(self, slot: Slot, batch: Batch) -> None:
        """While nobody else computes; copies of the other slots go on, which a capture of this thread alone allows."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(self.stream), torch.cuda.graph(graph, pool=slot.pool, stream=self.stream,
                                                                  capture_error_mode="thread_local"):
                output = self.forward(batch.input)
        except RuntimeError as error:  # of CUDA, or out of memory
            self.capturing = False
            self.stream = torch.cuda.Stream(self.device)  # the one before may be left in its capture
            print(f"note: no CUDA graph for {len(batch.input)} rows, and none from here on: "
                  f"{str(error).splitlines()[0]}", file=sys.stderr)
        else:
            batch.graph, batch.output = graph, output


def pinned(like: Tensor, device: torch.device) -> Tensor:
    """Host memory of the size of `like` that `device` copies without a detour."""
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=device.type == "cuda")
