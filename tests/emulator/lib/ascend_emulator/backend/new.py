"""The aclruntime of June 2024."""
from __future__ import annotations

from typing import Any, List

from .. import acl
from .pipeline import infer_options, run_arrays, run_files
from .process import Process
from .session import Session, session_options, sumary, tensor_desc
from .tensors import BaseTensor, MemorySummary, Tensor, batch, dtype, type

__all__ = ["BaseTensor", "InferenceSession", "MemorySummary", "Tensor", "batch", "dtype", "infer_options", "model",
           "session_options", "sumary", "tensor_desc", "type", *dtype.__members__, *type.__members__]
globals().update(dtype.__members__)
globals().update(type.__members__)
NO_AIPP_SETTING = ("max_batch_size", "input_format", "src_image_size", "rbuv_swap_switch", "ax_swap_switch",
                   "csc_params", "crop_params", "padding_params", "dtc_pixel_mean", "dtc_pixel_min", "pixel_var_reci")


class InferenceSession(Session):
    process = Process("new")

    @staticmethod
    def finalize() -> int:
        InferenceSession.process.finish()
        return 0

    def free_resource(self) -> int:
        self.destroy()
        self.process.close_context(self._device, self.context)
        return 0

    def get_max_dym_batchsize(self) -> int:
        return max(acl.mdl.get_dynamic_batch(self._desc)[0]["batch"], default=0)

    def get_dym_aipp_input_exist(self) -> int:
        """The emulated atc builds no dynamic AIPP."""
        return 0

    def check_dym_aipp_input_exist(self) -> int:
        return 0

    def set_dym_aipp_info_set(self) -> int:
        return 0

    def run_pipeline(self, first: Any, *others: Any) -> Any:
        """Files and options, or names, inputs, shapes and two switches."""
        self._use()
        return run_files(self, first, *others) if isinstance(others[0], infer_options) else run_arrays(
            self, first, *others)

    def first_inner_run(self, names: List[str], feeds: List[BaseTensor]) -> List[Tensor]:
        raise RuntimeError("the emulated aclruntime does not iterate on the device")

    def inner_run(self, relation: List[int], names: List[str], get_outputs: bool, mem_copy: bool) -> List[Tensor]:
        raise RuntimeError("the emulated aclruntime does not iterate on the device")


def _setter(_session: InferenceSession, _value: Any) -> int:
    return 0


for _name in NO_AIPP_SETTING:
    setattr(InferenceSession, f"aipp_set_{_name}", _setter)


def model(modelPath: str, deviceId: int = 0, options: session_options = None) -> InferenceSession:  # noqa: N803
    return InferenceSession(modelPath, deviceId, options)
