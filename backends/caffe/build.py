"""Write a Caffe net, NAME.prototxt and NAME.caffemodel, from an ONNX file.

    python3 -m backends.caffe.build models/bot_r50.onnx --output models/bot_r50

The files hold BVLC's own layers only and need no edit. Both are run by OpenCV and compared with ONNX Runtime before
they are left on disk.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import sys
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from backends.caffe.backend import check_reader
from backends.caffe.layers import WRITERS, LayerWriter
from backends.caffe.messages import WEIGHTS_LINE, message_classes
from contract.arguments import HelpFormatter, parse
from contract.errors import UserError
from contract.files import PathLike, make_folder, sha256_of_file, write_file
from contract.onnx_file import load_onnx, only_input

LEAST_COSINE = 0.999999  # of the whole output, OpenCV against ONNX Runtime, both float32


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.caffe.build", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("model", help=".onnx of float32")
    parser.add_argument("--output", help="path without suffix (default: the model's)")
    return parse(parser, argv)


def build(model: PathLike, output: Optional[PathLike] = None) -> Tuple[str, str]:
    """Write the two files; their paths. Raises UserError naming the operators that Caffe lacks.

    The weights come first: an interrupted build leaves a prototxt that does not belong to them, which is refused.
    """
    base = os.fspath(output) if output else os.path.splitext(os.fspath(model))[0]
    structure, weights = convert(load_onnx(model), model, os.path.basename(base))
    check(model, structure, weights)
    paths = f"{base}.prototxt", f"{base}.caffemodel"
    make_folder(os.path.dirname(base) or ".")
    write_file(paths[1], weights)
    write_file(paths[0], f"{WEIGHTS_LINE}{sha256_of_file(paths[1])}\n".encode() + structure)
    return paths


def convert(model: Any, path: PathLike, name: str) -> Tuple[bytes, bytes]:
    """An ONNX model as the contents of a prototxt and a caffemodel, for one image; a static batch is kept."""
    import onnx

    image = only_input(model, path)
    size = image.type.tensor_type.shape.dim
    if image.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise UserError(f"{path}: takes {onnx.TensorProto.DataType.Name(image.type.tensor_type.elem_type)}, expected "
                        "float32: Caffe has no other input. Export it without --dtype uint8")
    if not size[0].dim_value:
        size[0].dim_value = 1
    if operators_that_lack(model):  # as of shapes that are computed, which a fixed batch folds
        import onnxsim

        model = onnxsim.simplify(model)[0]
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights.update({node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
                    for node in model.graph.node if node.op_type == "Constant"})
    if len(model.graph.output) != 1:
        raise UserError(f"{path}: has outputs {', '.join(value.name for value in model.graph.output)}, expected one")
    lacking = operators_that_lack(model)
    if lacking:
        raise UserError(f"{path}: holds {', '.join(lacking)}, which Caffe lacks. Use it in ONNX Runtime")
    classes = message_classes()
    readers = Counter(name for node in model.graph.node for name in node.input)
    writer = LayerWriter(classes["LayerParameter"], _shapes(model), weights, readers)
    _input_layer(writer, image.name, [dim.dim_value for dim in size])
    for node in model.graph.node:
        if node.op_type != "Constant":
            WRITERS[node.op_type](writer, node)
    writer.rename(writer.top(model.graph.output[0].name), model.graph.output[0].name)
    return _files(classes["NetParameter"], writer.layers, name)


def operators_that_lack(model: Any) -> List[str]:
    return sorted({node.op_type for node in model.graph.node} - WRITERS.keys() - {"Constant"})


def _shapes(model: Any) -> Dict[str, Tuple[int, ...]]:
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}


def _input_layer(writer: LayerWriter, name: str, shape: List[int]) -> None:
    writer.add("Input", name, []).input_param.shape.add().dim.extend(shape)


def _files(net: Any, layers: List[Any], name: str) -> Tuple[bytes, bytes]:
    """Parameters into the prototxt alone and blobs into the caffemodel alone, so that the binary file holds no field
    that a fork numbers otherwise."""
    from google.protobuf import text_format

    structure, weights = net(name=name), net(name=name)
    for layer in layers:
        if layer.blobs:
            weights.layer.add(name=layer.name, type=layer.type).blobs.extend(layer.blobs)
        added = structure.layer.add()
        added.CopyFrom(layer)
        added.ClearField("blobs")
    return text_format.MessageToString(structure).encode(), weights.SerializeToString()


def check(model: PathLike, structure: bytes, weights: bytes) -> None:
    """Run both on noise and refuse a Caffe net that does not say what ONNX Runtime says."""
    import cv2
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(model), providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in image.shape]
    rows = np.random.default_rng(0).uniform(-0.5, 0.6, shape).astype(np.float32)
    expected = session.run(None, {image.name: rows})[0].astype(np.float64).ravel()
    check_reader()
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(structure, np.uint8), np.frombuffer(weights, np.uint8))
    net.enableWinograd(False)
    net.setInput(rows)
    came = net.forward().astype(np.float64).ravel()
    cosine = came @ expected / np.linalg.norm(came) / np.linalg.norm(expected) if came.shape == expected.shape else 0
    if not cosine >= LEAST_COSINE:
        raise UserError(f"{model}: the Caffe net agrees with ONNX Runtime to a cosine of {cosine:.7f}, expected at "
                        f"least {LEAST_COSINE}. It was not written")


def main() -> None:
    args = parse_args()
    print(*build(args.model, args.output), sep="\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
