"""An execution context at one batch, and the CUDA graph of it."""
from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict

from backends.tensorrt import cuda
from backends.tensorrt.engine import Engine
from contract.errors import UserError

if TYPE_CHECKING:
    import tensorrt


class Execution:
    """A context over the memory of one slot. A batch of the same size as the last one runs as a CUDA graph.

    A graph keeps the addresses and the shape that it was captured with, and must not be launched after its context was
    changed; so each slot has executions of its own, and an execution that gets another batch loses its graph. It is
    captured at the second run of a batch: TensorRT allocates at the first one, which a capture does not allow.
    """

    def __init__(self, engine: Engine, context: tensorrt.IExecutionContext, addresses: Dict[str, int], graphs: bool):
        self.engine, self.context, self.graphs = engine, context, graphs
        self.rows, self.runs, self.graph = 0, 0, None
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise engine.failure(f"refuses the memory of {name}")

    def set_batch(self, rows: int) -> None:
        self.close()
        self.engine.set_batch(self.context, rows)
        self.rows, self.runs = rows, 0

    def prepare(self, stream: Any) -> None:
        """Before a run: capture the graph when it is time. If that fails, run without one."""
        if self.graphs and self.runs == 1 and self.graph is None:
            try:
                self._capture(stream)
            except UserError as error:
                self.graphs = False
                print(f"{self.engine.path}: runs without a CUDA graph: {error}", file=sys.stderr)

    def _capture(self, stream: Any) -> None:
        """In the mode that lets other threads go on: they may serve other models on the same GPU."""
        mode = cuda.runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.call("cudaStreamBeginCapture", stream, mode)
        done = self.context.execute_async_v3(int(stream))
        graph = cuda.call("cudaStreamEndCapture", stream)
        try:
            if not done:
                raise self.engine.failure("cannot be captured")
            self.graph = cuda.call("cudaGraphInstantiate", graph, 0)
        finally:
            cuda.call("cudaGraphDestroy", graph)

    def run(self, stream: Any) -> None:
        if self.graph is not None:
            cuda.call("cudaGraphLaunch", self.graph, stream)
        elif not self.context.execute_async_v3(int(stream)):
            raise self.engine.failure("cannot execute")
        self.runs += 1

    def close(self) -> None:
        if self.graph is not None:
            cuda.runtime().cudaGraphExecDestroy(self.graph)
            self.graph = None
