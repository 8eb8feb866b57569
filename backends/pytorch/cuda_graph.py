"""A network on a CUDA device: pinned copies on a stream of its own, and a CUDA graph for each batch size."""
from __future__ import annotations

import sys
from typing import Callable, Dict, List, Optional

import numpy as np
import torch
from torch import Tensor


class Batch:
    """Memory of one batch size. A graph is bound to the addresses of `input` and `output`, so these stay."""

    def __init__(self, rows: Tensor, device: torch.device):
        self.host_input, self.input = pinned(rows, device), torch.empty_like(rows, device=device)
        self.output: Optional[Tensor] = None
        self.host_output: Optional[Tensor] = None
        self.graph: Optional[torch.cuda.CUDAGraph] = None


class CudaRunner:
    """`forward`, which takes and gives tensors on `device`, for contiguous rows on the host. One thread at a time.

    The first batch of a size runs without a graph and so loads what a capture needs; then its graph is captured,
    and the next ones replay it. `capturing` turns False, for good, when that fails. `times` has the milliseconds that
    each batch took on the device, copies left out.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], device: torch.device, capturing: bool):
        self.forward, self.device, self.capturing = forward, device, capturing
        torch.cuda.synchronize(device)  # the weights must have arrived: another stream does not wait for them
        self.stream = torch.cuda.Stream(device)
        # One pool for the graphs of all sizes: they never run at once, and each output is copied before the next runs.
        self.pool = torch.cuda.graph_pool_handle()
        self.batches: Dict[int, Batch] = {}
        self.times: List[float] = []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.cuda.device(self.device):
            if len(rows) in self.batches:
                return self._run(self.batches[len(rows)], rows)
            with torch.cuda.stream(self.stream):
                batch = Batch(torch.from_numpy(rows), self.device)
            heatmaps = self._run(batch, rows)
            if self.capturing:
                self._capture(batch)
            self.batches[len(rows)] = batch  # only now: a size that does not fit leaves nothing behind
            return heatmaps

    def _run(self, batch: Batch, rows: np.ndarray) -> np.ndarray:
        batch.host_input.copy_(torch.from_numpy(rows))
        started, finished = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(self.stream):
            batch.input.copy_(batch.host_input, non_blocking=True)
            started.record()
            if batch.graph is not None:
                batch.graph.replay()
            else:
                batch.output = self.forward(batch.input)
            assert batch.output is not None  # a graph was captured with one
            finished.record()
            if batch.host_output is None:
                batch.host_output = pinned(batch.output, self.device)
            batch.host_output.copy_(batch.output, non_blocking=True)
            self.stream.synchronize()
        self.times.append(started.elapsed_time(finished))
        return batch.host_output.numpy().copy()  # the caller's to keep: the pinned memory is used again

    def _capture(self, batch: Batch) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(self.stream), torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
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
