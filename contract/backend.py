"""What a backend is: it turns rows of bins into rows of dumps on one kind of device."""
from __future__ import annotations

from typing import TYPE_CHECKING, List, Mapping, Optional, Tuple, Union

import numpy as np

from contract.errors import UserError
from contract.files import PathLike
from contract.spec import first_of, outputs_of

if TYPE_CHECKING:
    from typing import Protocol

    from contract.spec import Spec, Tensors
else:
    Protocol = object  # Python 3.7 has none

ModelShape = Tuple[Optional[int], ...]  # batch first; None takes any number


class Backend(Protocol):
    """A loaded model. Shapes are as the model file states them, batch first; a batch of None means any number.

    `infer` takes contiguous or strided rows of `input_shape` and `input_dtype`, float32 or uint8, exactly the batch
    where there is one, and returns float32 rows of `output_shape` that are the caller's to keep. `slots` threads may
    call it at once and gain by it. `times` has one entry for each call of `infer`: the milliseconds that the device
    took for it, copies left out where the device tells.
    """

    input_dtype: np.dtype
    input_shape: ModelShape
    output_shape: ModelShape
    slots: int
    times: List[float]

    def infer(self, rows: np.ndarray) -> np.ndarray: ...

    # A backend may also have infer_from(count, fill), where `fill` writes `count` rows, at most `rows_lent`, straight
    # into memory that the device copies from.

    def describe(self) -> dict:
        """What decides its numbers: device, versions, precision (one of contract.room.PRECISIONS) and
        vendor_precision, the vendor's own word for it or None."""

    def close(self) -> None: ...


DECODED_DETECTOR = {"boxes", "confs"}  # outputs of pytorch-YOLOv4's exports, which AlphaPose_TRT is built on


def check_one_output(model: PathLike, outputs: Mapping[str, ModelShape]) -> None:
    """Refuse a model with several outputs, because it is not clear which one is meant. The error names them."""
    if len(outputs) == 1:
        return
    came = ", ".join(f"{name} ({format_shape(shape)})" for name, shape in outputs.items())
    if set(outputs) == DECODED_DETECTOR:
        advice = ("It decodes boxes itself, as AlphaPose_TRT's does. Make ours of the same weights: python3 -m "
                  "detection.export CFG WEIGHTS OUTPUT.onnx")
    elif any("simcc" in name.lower() for name in outputs):
        advice = "SimCC models, such as RTMPose, give two vectors a joint and no heatmaps, which is not supported"
    else:
        advice = ("Leave the one of the heatmaps or rows in its ONNX file: python3 -c 'from onnx.utils import "
                  'extract_model; extract_model("IN.onnx", "OUT.onnx", ["INPUT"], ["OUTPUT"])\'')
    raise UserError(f"{model}: gives {len(outputs)} outputs, {came}, expected one. {advice}")


def check_backend(backend: Backend, model: PathLike, spec: Union[Spec, Tensors]) -> None:
    """Close and refuse a model whose tensors are not those of `spec`."""
    complaint = _complaint(backend, spec)
    if complaint:
        backend.close()
        raise UserError(f"{model}: {complaint}")


def _complaint(backend: Backend, spec: Union[Spec, Tensors]) -> Optional[str]:
    if backend.input_dtype != spec.dtype:
        return (f"takes {backend.input_dtype} bins, but these are {spec.dtype}. Give the model for {spec.dtype} bins, "
                f"or make bins with preprocess.py --dtype {backend.input_dtype}")
    outputs = outputs_of(spec, backend.output_shape[1:])
    for what, shape, expected in (("input", backend.input_shape, spec.input_shape),
                                  ("output", backend.output_shape, first_of(outputs))):
        if tuple(shape[1:]) != tuple(expected):
            return (f"its {what} is {format_shape(shape)}, but the config says {format_shape((None, *expected))}. "
                    "Is the --cfg (--yolo_cfg of a detector) that of this model?")
    return None


def format_shape(shape: ModelShape) -> str:
    return " x ".join("N" if size is None else str(size) for size in shape)


def pad_rows(rows: np.ndarray, batch: int) -> np.ndarray:
    """At least `batch` rows: a short batch repeats its first row, as ais_bench fills it."""
    missing = batch - len(rows)
    return np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)]) if missing > 0 else rows


def infer_rows(backend: Backend, rows: np.ndarray, batch: int) -> np.ndarray:
    """Run any number of rows through `backend`, `batch` at a time. A short last batch is padded if the model needs it;
    the padding is not returned."""
    outputs = []
    for start in range(0, len(rows), batch):
        part = rows[start:start + batch]
        padded = part if backend.input_shape[0] is None else pad_rows(part, batch)
        outputs.append(backend.infer(padded)[:len(part)])
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
