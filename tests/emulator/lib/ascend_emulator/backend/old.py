"""The aclruntime of June 2023."""
from __future__ import annotations

from .process import Process
from .session import Session, session_options, sumary, tensor_desc
from .tensors import BaseTensor, MemorySummary, Tensor, batch, dtype, type

__all__ = ["BaseTensor", "InferenceSession", "MemorySummary", "Tensor", "batch", "dtype", "model", "session_options",
           "sumary", "tensor_desc", "type", *dtype.__members__, *type.__members__]
globals().update(dtype.__members__)
globals().update(type.__members__)


class InferenceSession(Session):
    process = Process("old")

    def finalize(self) -> int:
        self.destroy()
        self.process.finish()
        return 0


def model(modelPath: str, deviceId: int = 0, options: session_options = None) -> InferenceSession:  # noqa: N803
    return InferenceSession(modelPath, deviceId, options)
