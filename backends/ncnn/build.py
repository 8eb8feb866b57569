"""An ONNX file as ncnn's .param and .bin, by pnnx.

    python3 -m backends.ncnn.build models/fast_res50_256x192_bs1.onnx models/fast_res50_256x192.param

Input, output and convolutions keep their names of the ONNX file. The result is run and compared with ONNX Runtime
before it is left on disk; one that is there already and was made from the same file is kept.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from backends.ncnn.model_file import QUANTIZABLE, Layer, Weights, read_param, read_weights
from backends.ncnn.pair import is_made, param_path, write_pair
from contract.arguments import HelpFormatter, parse
from contract.errors import UserError
from contract.files import make_folder
from contract.locks import hold, reading
from contract.onnx_file import load_onnx, only_input, sha256_of_model

MAX_RELATIVE_ERROR = {"fp32": 1e-3, "fp16": 5e-2}  # of the largest value, against ONNX Runtime
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.ncnn.build", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("model", help=".onnx with one float32 input")
    parser.add_argument("output", help=".param to write; the .bin lies beside it")
    parser.add_argument("--precision", choices=list(MAX_RELATIVE_ERROR), default="fp32", help="of the stored weights; "
                        "fp16 halves the file")
    return parse(parser, argv)


def build(model: str, output: Path, precision: str = "fp32") -> Path:
    """Write the .param, the .bin and their record; the path of the first."""
    output = param_path(output)
    facts = {"onnx": model, "onnx_sha256": sha256_of_model(model),
             "precision": precision, "pnnx": pnnx_version(),
             "command": shlex.join(["python3", "-m", "backends.ncnn.build", model, str(output), "--precision",
                                    precision])}
    if is_made(output, facts):
        print(f"{output}: kept, of the same ONNX file")
        return output
    onnx_model = clean(load_onnx(model))
    shape = input_shape(onnx_model, model)
    make_folder(output.parent)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".pnnx") as scratch:
        converted = convert(onnx_model, Path(scratch), shape, precision, model)
        layers = read_param(converted)
        weights = read_weights(converted.with_suffix(".bin"), layers)
        keep_names(layers, weights, onnx_model)
        set_input_shape(layers, shape)
        trial = Path(scratch) / "named.param"
        write_pair(trial, layers, weights, {})
        error = relative_error(trial, onnx_model, shape)
        if not error <= MAX_RELATIVE_ERROR[precision]:
            raise UserError(f"{output}: not written. It differs from {model} by {error:.1e} of the largest value, "
                            f"expected at most {MAX_RELATIVE_ERROR[precision]:.0e}")
        write_pair(output, layers, weights, facts)
    print(f"{output}: {len(layers)} layers, differs from ONNX Runtime by {error:.1e} of the largest value")
    return output


def pnnx_version() -> str:
    try:
        return version("pnnx")
    except ModuleNotFoundError:
        raise UserError("the conversion to ncnn needs the Python package pnnx, which is not installed. "
                        "python3 -m pip install -r requirements-ncnn.txt") from None


def input_shape(model: Any, path: str) -> Tuple[int, ...]:
    """(C, H, W). The batch may be symbolic or 1, nothing else."""
    from onnx import TensorProto

    value = only_input(model, path)
    sizes = [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]
    if value.type.tensor_type.elem_type != TensorProto.FLOAT or len(sizes) != 4 or sizes[0] not in (None, 1) \
            or None in sizes[1:]:
        raise UserError(f"{path}: its input {value.name} is {sizes} of "
                        f"{TensorProto.DataType.Name(value.type.tensor_type.elem_type)}, expected one float32 image, "
                        "(1, C, H, W) or any batch of it. Export it with --batch 1 and without --dtype uint8")
    return tuple(sizes[1:])  # type: ignore[arg-type]


def convert(model: Any, scratch: Path, shape: Sequence[int], precision: str, name: str) -> Path:
    """Run pnnx in `scratch`: the .param that it leaves. Its own Python call hides a failure, so its program is run."""
    import onnx

    onnx.save(model, scratch / "model.onnx")
    command = [str(pnnx_program()), "model.onnx", f"inputshape=[1,{','.join(map(str, shape))}]",
               f"fp16={int(precision == 'fp16')}"]
    done = subprocess.run(command, cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace")
    files = [scratch / f"model.ncnn{suffix}" for suffix in (".param", ".bin")]
    if done.returncode or not all(path.is_file() for path in files):
        lines = COLOURS.sub("", done.stdout).strip().splitlines() or ["nothing"]
        raise UserError(f"{name}: pnnx {pnnx_version()} cannot convert it (exit code {done.returncode}). Its last "
                        f"line: {lines[-1]}")
    return files[0]


def pnnx_program() -> Path:
    """The program in the wheel. Not imported, because its package imports torch."""
    spec = importlib.util.find_spec("pnnx")
    return Path(spec.submodule_search_locations[0]) / "pnnx"  # type: ignore[union-attr,index]


def clean(model: Any) -> Any:
    """The model with batch norm folded into its convolutions, so that their weights are those that pnnx writes.

    Old exporters give BatchNormalization an attribute `spatial` of 0, over which ONNX Runtime, and pnnx with it,
    stumbles; for numbers of one axis it means nothing.
    """
    import onnxsim

    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    for node in norms:
        kept = [attribute for attribute in node.attribute if attribute.name != "spatial"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return onnxsim.simplify(model)[0] if norms else model


def keep_names(layers: List[Layer], weights: Dict[str, Weights], model: Any) -> None:
    """Give the input, the outputs and the convolutions their names of the ONNX file, in place.

    pnnx numbers them anew. A convolution is known by its weights, the first of equal ones by its place; ncnn's names
    hold no spaces.
    """
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in known]
    blobs = {f"{ours}{number}": _word(name) for ours, names in
             (("in", inputs), ("out", [value.name for value in model.graph.output]))
             for number, name in enumerate(names)}
    nodes = _nodes_by_weights(model)
    for layer in layers:
        layer.inputs[:] = [blobs.get(name, name) for name in layer.inputs]
        layer.outputs[:] = [blobs.get(name, name) for name in layer.outputs]
        name = layer.name
        if layer.kind == "Input":
            layer.name = blobs[name]
        elif layer.kind in QUANTIZABLE:
            waiting = nodes.get(_fingerprint(weights[name].values), [])
            layer.name = waiting.pop(0) if waiting else name
            weights[layer.name] = weights.pop(name)


def _word(name: str) -> str:
    return re.sub(r"\s", "_", name)


def _fingerprint(values: np.ndarray) -> bytes:
    """Of the same weights in float32 or float16, in whatever shape."""
    return values.astype(np.float16).tobytes()


def _nodes_by_weights(model: Any) -> Dict[bytes, List[str]]:
    """Names of the nodes that read these weights, in the order of the file. Nodes without a name are left out."""
    from onnx.numpy_helper import to_array

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: Dict[bytes, List[str]] = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and node.name and node.input[1] in tensors:
            nodes.setdefault(_fingerprint(to_array(tensors[node.input[1]]).ravel()), []).append(_word(node.name))
    return nodes


def set_input_shape(layers: Sequence[Layer], shape: Sequence[int]) -> None:
    """Let the Input layer say its size, as w, h and c, so that the file can be run without a config."""
    for layer in layers:
        if layer.kind == "Input":
            layer.params.update(zip(("2", "1", "0"), map(str, shape)))


def relative_error(param: Path, model: Any, shape: Sequence[int]) -> float:
    """Largest difference from ONNX Runtime on one image of noise, over the largest value."""
    import onnxruntime

    from backends.ncnn.backend import Net, try_model

    image = np.random.default_rng(0).uniform(0, 1, (1, *shape)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: image})[0][0]
    try_model(param, shape)
    net = Net(param)
    came, = net.run(image[0], [_word(session.get_outputs()[0].name)])
    return float(np.abs(came.reshape(expected.shape) - expected).max() / np.abs(expected).max())


def main() -> None:
    args = parse_args()
    output = param_path(args.output)
    make_folder(output.parent)
    with hold(output), reading(args.model):
        build(args.model, output, args.precision)


if __name__ == "__main__":
    sys.exit(exit_code(main))
