"""The integers of ascend.quantize beside those of Huawei's msModelSlim, for the same ranges.

    python3 benchmarks/ascend_int8.py models/fast_res50_256x192.onnx --msmodelslim ~/venv_slim/bin/python3

msModelSlim runs in an environment of its own, on a CPU and without CANN: Python 3.11, `pip install numpy==1.26.4
onnx==1.16.2 onnxruntime==1.18.1 easydict pydantic wcmatch pygtrie pyyaml tqdm`, `pip install --no-deps
msmodelslim==26.1.0`, and a torch that can be imported. It quantises every convolution on noise; the ranges are read
from its file, and our form is written of them. Exit code 1 where an integer differs.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from ascend.quantize import to_deploy  # noqa: E402
from contract.onnx_file import load_onnx, only_input, opset_of  # noqa: E402
from quantization.decision import Decision  # noqa: E402
from quantization.graph import prepare  # noqa: E402
from quantization.qdq import to_qdq  # noqa: E402

QUANTIZE = """import sys, numpy
from msmodelslim.onnx.post_training_quant import QuantConfig, run_quantize
rows = [[numpy.load(path)] for path in sys.argv[4:]]
run_quantize(sys.argv[1], sys.argv[2], QuantConfig(calib_data=rows, amp_num=int(sys.argv[3])))
"""
IMAGES = 8
OPSET = 11  # that it writes, whatever it was given


class Integers:
    """Of a file in Huawei's form: convolution -> its AscendQuant, int8 weights, int32 bias and factors as uint64."""

    def __init__(self, model: ModelProto):
        self.values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        makers = {name: node for node in model.graph.node for name in node.output}
        readers = {name: node for node in model.graph.node for name in node.input}
        self.quants: Dict[str, Dict[str, float]] = {}
        self.tensors: Dict[Tuple[str, str], np.ndarray] = {}
        for node in model.graph.node:
            quant = makers.get(node.input[0])
            if node.op_type == "Conv" and quant is not None and quant.op_type == "AscendQuant":
                name = node.name.removesuffix("_quant")
                self.quants[name] = {one.name: onnx.helper.get_attribute_value(one) for one in quant.attribute}
                self._keep(name, node, readers[node.output[0]])

    def _keep(self, name: str, node: NodeProto, dequant: NodeProto) -> None:
        for what, tensor in (("weights", node.input[1]), ("bias", node.input[2] if len(node.input) > 2 else None),
                             ("factors", dequant.input[1])):
            if tensor:
                self.tensors[name, what] = self.values[tensor]


def range_of(quant: Dict[str, float], factors: np.ndarray, weights: np.ndarray) -> Tuple[float, float]:
    """What msModelSlim's AscendQuant keeps. It holds 1 / step; of the steps that round to it, the one whose products
    with the weights' scales are the factors."""
    scales = np.abs(weights).reshape(len(weights), -1).max(axis=1) / np.float32(127)
    near = np.float32(1 / quant["scale"])
    steps = [near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(1e9))]
    factors = factors.astype(np.uint32).view(np.float32)
    step = float(max(steps, key=lambda step: int((step * scales == factors).sum())))
    return (-128 - quant["offset"]) * step, (127 - quant["offset"]) * step


def quantize_there(python: str, model: ModelProto, folder: Path) -> ModelProto:
    onnx.save(model, str(folder / "float.onnx"))
    sizes = [size.dim_value or 1 for size in only_input(model, "model").type.tensor_type.shape.dim]
    rng, paths = np.random.default_rng(0), [folder / f"{number}.npy" for number in range(IMAGES)]
    for path in paths:
        np.save(path, rng.uniform(-0.5, 0.6, sizes).astype(np.float32))
    subprocess.run([python, "-c", QUANTIZE, str(folder / "float.onnx"), str(folder / "theirs.onnx"), "0",
                    *map(str, paths)], check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return onnx.load(str(folder / "theirs.onnx"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="float32 .onnx")
    parser.add_argument("--msmodelslim", required=True, metavar="PYTHON", help="the interpreter that has it")
    args = parser.parse_args()
    model = load_onnx(args.model)
    prepared = prepare(model, args.model)
    folded = all(node.op_type != "BatchNormalization" for node in model.graph.node)
    given = model if folded and opset_of(model) == OPSET else prepared
    with tempfile.TemporaryDirectory() as folder:
        theirs = Integers(quantize_there(args.msmodelslim, given, Path(folder)))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in prepared.graph.initializer}
    nodes = {node.name: node for node in prepared.graph.node}
    ranges = {nodes[name].input[0]: range_of(quant, theirs.tensors[name, "factors"], weights[nodes[name].input[1]])
              for name, quant in theirs.quants.items()}
    kept = {node.name: "float there" for node in prepared.graph.node
            if node.op_type == "Conv" and node.name not in theirs.quants}
    ours = Integers(to_deploy(to_qdq(prepared, Decision(ranges, kept, "msModelSlim"), "ascend"), args.model)[0])
    print(f"{args.model}: {len(ours.quants)} convolutions here, {len(theirs.quants)} there")
    differ = sum(ours.quants[name]["offset"] != quant["offset"] for name, quant in theirs.quants.items())
    print(f"offsets: {differ} of {len(theirs.quants)} differ")
    for what in ("weights", "bias", "factors"):
        keys = [key for key in theirs.tensors if key[1] == what]
        wrong = sum(int((ours.tensors[key].reshape(-1) != theirs.tensors[key].reshape(-1)).sum()) for key in keys)
        print(f"{what}: {wrong} of {sum(theirs.tensors[key].size for key in keys)} differ")
        differ += wrong
    return int(differ > 0 or ours.tensors.keys() != theirs.tensors.keys())


if __name__ == "__main__":
    sys.exit(main())
