"""A checkpoint in PyTorch, on the CPU or on CUDA: what every other device is compared with."""
from __future__ import annotations

import time
from typing import Any, List, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from backends.pytorch.cuda_graph import SLOTS, CudaRunner
from backends.pytorch.options import ROOM
from contract.errors import UserError
from contract.files import PathLike
from contract.threads import threads_wanted
from networks.fastpose import PixelInput
from networks.one_pass import OnePass
from networks.registry import load_network

PRECISIONS = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
HALF = ("fp16", "bf16")
THREADS = torch.get_num_threads()  # its own choice


class Backend:
    """The checkpoint of a network with its spec. Any batch, float32 out.

    `precision` is that of the weights and of the arithmetic between. `one_pass`, flip or no_flip, gives keypoints, read
    from float32 heatmaps. `cuda_graph` counts on CUDA alone.

    Batch norm is folded into the convolutions before it, which changes float32 by 4e-7 of the largest value. On CUDA
    `slots` threads may call `infer` at once.

    cuDNN's benchmark mode stays off: it chooses algorithms by timing them, and a run that is continued, or done again,
    must give the same bytes.
    """

    def __init__(self, model: PathLike, device: Optional[str] = None, spec: Any = None, precision: str = "fp32",
                 cuda_graph: bool = True, one_pass: Optional[str] = None):
        self.device, self.dtype = _open_device(device or "cpu"), PRECISIONS[precision]
        torch.set_num_threads(threads_wanted() or THREADS)  # of the process
        # TF32 keeps 10 bits of a float32's 23; a baseline keeps them all.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.input_dtype = np.dtype(spec.dtype)
        takes_bytes = self.input_dtype == np.uint8
        self.normalize = PixelInput(spec.mean, spec.std).to(self.device) if takes_bytes else nn.Identity()
        # Half precision runs on tensor cores, which take channels last; the others keep the layout of the checkpoint.
        self.layout = torch.channels_last if precision in HALF else torch.contiguous_format
        widest = torch.promote_types(self.dtype, torch.float32)  # in which batch norm is folded
        network: Any = fuse(load_network(spec, model).to(widest))
        network = network.to(self.device, self.dtype, memory_format=self.layout)
        if one_pass:
            flip_shift = "clean" if one_pass == "flip" else None
            network = OnePass(network, spec.one_pass(flip_shift, spec.dtype)).to(self.device).eval()
        self.network = network
        self.runner = CudaRunner(self._forward, self.device, cuda_graph) if self.device.type == "cuda" else None
        self.slots = SLOTS if self.runner else 1
        self.times: List[float] = self.runner.times if self.runner else []
        self.input_shape = (None, *spec.input_shape)
        self.output_shape = (None, *self.infer(np.zeros((1, *spec.input_shape), self.input_dtype)).shape[1:])
        self.times.clear()

    def _forward(self, rows: Tensor) -> Tensor:
        crops = self.normalize(rows).to(self.dtype, memory_format=self.layout)
        return self.network(crops).float().contiguous()

    def infer(self, rows: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(rows, self.input_dtype)
        try:
            if self.runner:
                return self.runner(rows)
            started = time.perf_counter()
            with torch.inference_mode():
                outputs = self._forward(torch.from_numpy(rows)).numpy()
            self.times.append(1000 * (time.perf_counter() - started))
            return outputs
        except torch.cuda.OutOfMemoryError:
            raise UserError(f"a batch of {len(rows)} does not fit into the memory of {self.device}. Choose a smaller "
                            "--batchsize, or give --no-cuda_graph: a capture that fails may keep memory") from None

    def describe(self) -> dict:
        on = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        graphs = {"cuda_graph": self.runner.capturing} if self.runner else {}
        return {"device": on, **ROOM.precision(str(self.dtype).split(".")[1]), **graphs, "torch": torch.__version__}

    def close(self) -> None:
        self.network = self.runner = None


def _open_device(name: str) -> torch.device:
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("another kind of device")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: torch {torch.__version__} cannot use it "
                        f"({str(error).splitlines()[0]}). Expected cpu, cuda, cuda:1 or 1") from None
    return device
