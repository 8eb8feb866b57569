"""A Caffe net in OpenCV's reader, float32 on the CPU: what shows that the files are right, not a fast engine."""
from __future__ import annotations

import os
import time
from typing import Any, List, Optional, Tuple

import cv2
import numpy as np

from backends.caffe.messages import WEIGHTS_LINE, message_classes
from backends.caffe.options import ROOM
from contract.errors import UserError
from contract.files import PathLike, sha256_of_file

WITH_WEIGHTS = ("Convolution", "Deconvolution", "InnerProduct")


class Backend:
    """NAME.prototxt with NAME.caffemodel beside it; `model` names either. Takes any batch.

    Winograd's transform is off: it costs OpenCV a digit of accuracy.
    """

    input_dtype = np.dtype(np.float32)
    slots = 1

    def __init__(self, model: PathLike, device: Optional[str] = None, spec: Any = None):
        if device not in (None, "cpu"):
            raise UserError(f"--device {device}: the caffe backend runs on cpu")
        check_reader()
        base = os.path.splitext(os.fspath(model))[0]
        self.model, paths = base, (f"{base}.prototxt", f"{base}.caffemodel")
        for path in paths:
            if not os.path.isfile(path):
                raise UserError(f"{path}: no such file. A Caffe net is {paths[0]} and {paths[1]}")
        structure, self.weights_sha256 = read_pair(*paths)
        self.times: List[float] = []
        try:
            self.net = cv2.dnn.readNetFromCaffe(*paths)
        except cv2.error as error:
            raise UserError(f"{base}: OpenCV {cv2.__version__} cannot load it: {_line(error)}") from None
        self.net.enableWinograd(False)
        row = _input_shape(structure, paths[0])[1:]
        self.input_shape: Tuple[Optional[int], ...] = (None, *row)
        blank = np.zeros((1, *row), np.float32)
        self.output_shape: Tuple[Optional[int], ...] = (None, *self.infer(blank).shape[1:])
        self.times.clear()

    def infer(self, rows: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        try:
            self.net.setInput(np.ascontiguousarray(rows, np.float32))
            outputs = self.net.forward().copy()
        except cv2.error as error:
            raise UserError(f"{self.model}: OpenCV {cv2.__version__} cannot run it: {_line(error)}") from None
        self.times.append(1000 * (time.perf_counter() - start))
        return outputs

    def describe(self) -> dict:
        return {"device": "cpu", **ROOM.precision("float32"), "weights_sha256": self.weights_sha256,
                "opencv": cv2.__version__}

    def close(self) -> None:
        self.net = None  # type: ignore[assignment]


def check_reader() -> None:
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        raise UserError(f"OpenCV {cv2.__version__} reads no Caffe files, as 5 and later do not. python3 -m pip install "
                        "'opencv-python-headless<5'")


def read_pair(structure_path: str, weights_path: str) -> Tuple[Any, str]:
    """The parsed prototxt, and the sha256 of the weights. Raises UserError where they are not those of its layers:
    OpenCV loads such a pair and computes with zeros."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    net = message_classes()["NetParameter"]
    structure, weights = net(), net()
    try:
        with open(structure_path, encoding="utf-8") as file:
            text = file.read()
        text_format.Parse(text, structure, allow_unknown_field=True)
        with open(weights_path, "rb") as file:
            weights.ParseFromString(file.read())
    except (text_format.ParseError, UnicodeDecodeError, DecodeError) as error:
        raise UserError(f"{structure_path}, {weights_path}: expected a Caffe net, but {_line(error)}") from None
    digest, written_with = sha256_of_file(weights_path), text.splitlines()[0] if text else ""
    if written_with.startswith(WEIGHTS_LINE) and written_with != WEIGHTS_LINE + digest:
        raise UserError(f"{weights_path}: not the weights that {structure_path} was written with. Give the pair that "
                        "was written together")
    _check_layers(structure, weights, structure_path, weights_path)
    return structure, digest


def _check_layers(structure: Any, weights: Any, structure_path: str, weights_path: str) -> None:
    shapes = {layer.name: [tuple(blob.shape.dim) for blob in layer.blobs] for layer in weights.layer if layer.blobs}
    for layer in structure.layer:
        if layer.type in WITH_WEIGHTS and shapes:  # files of Caffe's first version keep their layers elsewhere
            outputs = layer.inner_product_param.num_output or layer.convolution_param.num_output
            came = shapes.get(layer.name)
            if came is None or outputs not in came[0][:2] and len(came[0]) > 1 and layer.type != "Deconvolution":
                raise UserError(f"{weights_path}: holds no weights for the layer {layer.name} of {structure_path} "
                                f"({outputs} outputs; there: {came}). Give the pair that was written together")


def _input_shape(structure: Any, path: str) -> List[int]:
    inputs = [layer for layer in structure.layer if layer.type == "Input"]
    if len(inputs) != 1 or len(inputs[0].input_param.shape) != 1 or len(inputs[0].input_param.shape[0].dim) != 4:
        raise UserError(f"{path}: expected one layer of type Input with one shape of 4 sizes")
    return list(inputs[0].input_param.shape[0].dim)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
