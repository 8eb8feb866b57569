"""A checkpoint in PyTorch, on the CPU or on CUDA: what every other device is compared with."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np
import torch

from networks.darknet import load_darknet
from networks.fastpose import load_fastpose
from pose.errors import UserError
from pose.files import PathLike


class Backend:
    """FastPose's checkpoint with its PoseConfig, or darknet's weights with their cfg, in float32. Takes any batch."""

    def __init__(self, model: PathLike, device: Optional[str] = None, config: Any = None):
        if config is None:
            raise UserError(f"{model}: the pytorch backend needs the --cfg of this checkpoint")
        self.device = _open_device(device or "cpu")
        # TF32 keeps 10 bits of a float32's 23; a baseline keeps them all.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        load = load_darknet if hasattr(config, "blocks") else load_fastpose
        self.network = load(config, model).to(self.device)
        self.input_dtype = np.dtype(getattr(config, "dtype", np.float32))
        self.input_shape = (None, *config.input_shape)
        self.output_shape = (None, *self.infer(np.zeros((1, *config.input_shape), self.input_dtype)).shape[1:])

    def infer(self, rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            rows = torch.from_numpy(np.ascontiguousarray(rows, self.input_dtype)).to(self.device)
            return self.network(rows).cpu().numpy()

    def describe(self) -> dict:
        on = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {"device": on, "precision": "float32", "torch": torch.__version__}

    def close(self) -> None:
        self.network = None


def _open_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name}: torch {torch.__version__} cannot use it "
                        f"({str(error).splitlines()[0]}). Expected cpu, cuda or cuda:1") from None
    return device
