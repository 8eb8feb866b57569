"""int8 made here beside NNCF's accuracy control and msModelSlim's amp_num: what each keeps, loses and wins, in one run.

    python3 benchmarks/int8_others.py models/fast_res50_256x192.onnx --input ./prep_data_train \\
        --validation ./prep_data --dataroot ./data/coco --nncf ~/venv_nncf/bin/python3 \\
        --msmodelslim ~/venv_slim/bin/python3

All are calibrated on the same bins of --input and judged on those of --validation, and begin with one file, batch norm
folded. NNCF gets the goal that quantize.py has by default, the cosine with float32, on the crops that quantize.py tries
int8 on. It runs in an environment of its own: `pip install nncf openvino`. For that of msModelSlim see
benchmarks/ascend_int8.py. Files for Ascend run in whole numbers on the emulated card, which has no speed; the others
are timed in processes of their own, one after the other and again, with the medians of the rounds.
"""
from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, List, Optional

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from benchmarks.ascend_int8 import QUANTIZE as MSMODELSLIM  # noqa: E402
from benchmarks.int8 import CHANGE, add_data, change_cells  # noqa: E402
from benchmarks.int8_speed import SPEED, add_rounds, speed_cells, time_alternated, timer  # noqa: E402
from contract.arguments import HelpFormatter, at_least  # noqa: E402
from contract.bins import open_bins  # noqa: E402
from contract.errors import UserError  # noqa: E402
from contract.onnx_file import load_onnx, only_input  # noqa: E402
from contract.tables import format_table  # noqa: E402
from layers.graphs import sort_nodes  # noqa: E402
from pose.annotations import load_annotations  # noqa: E402
from quantization.crops import batches, share_out  # noqa: E402
from quantization.decision import load_decision, record_of  # noqa: E402
from quantization.evaluation import Validation  # noqa: E402
from quantization.graph import Graph, prepare  # noqa: E402
from quantization.qdq import FORMS, layers_of  # noqa: E402
from quantization.running import Network  # noqa: E402
from quantization.search import COSINE_GOAL  # noqa: E402
from tests.emulator.local import build_om, load  # noqa: E402

PEOPLE = 256  # that quantize.py calibrates on by default
NNCF = """
import sys, numpy, nncf, openvino
rows, tried, expected = (numpy.load(f"{name}.npy") for name in ("rows", "tried", "expected"))
model = openvino.Core().read_model("float.onnx")
model.reshape([1, *rows.shape[1:]])
def cosine(a, b):
    return float((a * b).sum() / numpy.sqrt((a * a).sum() * (b * b).sum()))
def validate(compiled, numbers):
    values = [cosine(compiled(tried[one:one + 1])[0][0].astype("float64"), expected[one]) for one in numbers]
    return float(numpy.mean(values)), values
data = nncf.Dataset(list(range(len(rows))), lambda number: rows[number:number + 1])
judged = nncf.Dataset(list(range(len(tried))))
made = nncf.quantize(model, data, subset_size=len(rows))
openvino.save_model(made, "nncf.xml", compress_to_fp16=False)
made = nncf.quantize_with_accuracy_control(model, data, judged, validate, max_drop=float(sys.argv[1]),
                                           subset_size=len(rows))
openvino.save_model(made, "nncf_accuracy.xml", compress_to_fp16=False)
"""
OPENVINO = """
import os, sys, time, numpy, openvino
os.chdir(os.path.dirname(sys.argv[1]))
model = openvino.Core().read_model(sys.argv[1])
rows = numpy.load("judged.npy")
model.reshape([1, *rows.shape[1:]])
compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"})
if len(sys.argv) == 3:
    clock, cpu = [], []
    for _ in range(int(sys.argv[2])):
        started, used = time.perf_counter(), time.process_time()
        compiled(rows[:1])
        clock.append(1000 * (time.perf_counter() - started))
        cpu.append(1000 * (time.process_time() - used))
    print(sorted(clock)[len(clock) // 2], min(cpu))
else:
    kinds = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}
    layers = [one for one in model.get_ordered_ops() if one.get_type_name() in kinds]
    print(len(layers), sum(one.input_value(0).get_node().get_type_name() != "FakeQuantize" for one in layers))
    numpy.save("outputs.npy", numpy.concatenate([compiled(rows[one:one + 1])[0] for one in range(len(rows))]))
"""


@dataclasses.dataclass
class Way:
    """One row: who made the file, how many layers are float of how many, what runs it, the outputs of the judged crops,
    and the command that prints its milliseconds."""

    name: str
    kept: str
    runtime: str
    outputs: np.ndarray
    timer: Optional[List[str]] = None


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    add_data(parser)
    parser.add_argument("--nncf", metavar="PYTHON", help="the interpreter that has nncf and openvino")
    parser.add_argument("--msmodelslim", metavar="PYTHON", help="the interpreter that has msmodelslim")
    parser.add_argument("--amp_num", type=at_least(0), nargs="+", default=[0, 5, 25], help="numbers of layers that "
                        "msModelSlim chooses to keep in float")
    add_rounds(parser)
    parser.add_argument("--runs", type=at_least(1), default=30, help="crops of a run")
    return parser.parse_args(argv)


class Comparison:
    """All that is compared, in one folder."""

    def __init__(self, args: argparse.Namespace, folder: Path):
        self.args, self.folder = args, folder
        model = prepare(load_onnx(args.model), args.model)
        onnx.save(model, str(folder / "float.onnx"))
        self.input, self.graph = only_input(model, args.model).name, Graph(model)
        network, bins = Network(model.SerializeToString(), args.model), open_bins(Path(args.input), None)
        judged = open_bins(Path(args.validation), None)
        self.validation = Validation(judged, load_annotations(args.dataroot), network.infer)
        self.rows, tried = (np.concatenate(list(batches(bins, numbers, None))) for numbers in share_out(bins, PEOPLE))
        self.judged = judged.read(range(len(judged)))
        for name, values in (("rows", self.rows), ("tried", tried), ("expected", network.infer(tried)),
                             ("judged", self.judged)):
            np.save(folder / f"{name}.npy", values)

    def python(self, python: str, code: str, *arguments: object) -> str:
        """What a program in another environment prints."""
        finished = subprocess.run([python, "-c", code, *map(str, arguments)], cwd=self.folder, capture_output=True,
                                  text=True)
        if finished.returncode:
            raise UserError(f"{python}: {' '.join(finished.stderr.split()[-30:])}")
        return finished.stdout

    def onnxruntime(self, name: str, kept: str, path: Path) -> Way:
        return Way(name, kept, "ONNX Runtime", Network(path.read_bytes(), path).infer(self.judged),
                   timer("onnxruntime", path, self.args.runs))

    def openvino(self, name: str, kept: Optional[str], path: Path) -> Way:
        layers, float_layers = self.python(self.args.nncf, OPENVINO, path).split()
        return Way(name, kept or f"{float_layers} of {layers}", "OpenVINO", np.load(self.folder / "outputs.npy"),
                   [self.args.nncf, "-c", OPENVINO, str(path), str(self.args.runs)])

    def emulated_card(self, name: str, kept: str, path: Path) -> Way:
        om = build_om(path, path.with_suffix(""), f"{self.input}:{','.join(map(str, (1, *self.judged.shape[1:])))}")
        card = load("ascend_emulator.om").read(om)
        rows = [np.ascontiguousarray(row[None], np.float32).view(np.uint8).ravel() for row in self.judged]
        return Way(name, kept, "emulated card", np.concatenate([card.run([row], 1)[0] for row in rows]))

    def made_here(self) -> List[Way]:
        ways = []
        for target in ("cpu", "ascend"):
            path = self.folder / f"here_{target}.onnx"
            subprocess.run([sys.executable, str(ROOT / "quantize.py"), str(self.folder / "float.onnx"), "--input",
                            self.args.input, "--target", target, "--output", str(path)], check=True,
                           stdout=subprocess.DEVNULL)
            kept = f"{len(load_decision(record_of(path)).kept)} of {len(layers_of(self.graph, FORMS[target]))}"
            if target == "cpu":
                ways.append(self.onnxruntime("quantize.py", kept, path))
                if self.args.nncf:
                    ways.append(self.openvino("quantize.py", kept, path))
            else:
                deploy = path.with_name("deploy.onnx")
                subprocess.run([sys.executable, "-m", "ascend.quantize", str(path), str(deploy)], check=True, cwd=ROOT,
                               stdout=subprocess.DEVNULL)
                ways.append(self.emulated_card("quantize.py --target ascend", kept, deploy))
        return ways

    def by_nncf(self) -> List[Way]:
        self.python(self.args.nncf, NNCF, 1 - COSINE_GOAL)
        return [self.openvino("NNCF, quantize", None, self.folder / "nncf.xml"),
                self.openvino("NNCF, accuracy control", None, self.folder / "nncf_accuracy.xml")]

    def by_msmodelslim(self) -> List[Way]:
        paths = [self.folder / f"row{number}.npy" for number in range(len(self.rows))]
        for path, row in zip(paths, self.rows):
            np.save(path, row[None])
        ways = []
        for amp_num in self.args.amp_num:
            output = self.folder / f"msmodelslim_{amp_num}.onnx"
            self.python(self.args.msmodelslim, MSMODELSLIM, "float.onnx", output.name, amp_num, *paths)
            model = load_onnx(output)
            sort_nodes(model)  # which it neglects
            onnx.save(model, str(output))
            ways.append(self.emulated_card(f"msModelSlim, amp_num={amp_num}", kept_for_ascend(output), output))
        return ways


def kept_for_ascend(path: Path) -> str:
    """Of the convolutions in Huawei's form, those that read no int8."""
    nodes = onnx.load(str(path)).graph.node
    int8 = {name for node in nodes if node.op_type == "AscendQuant" for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    return f"{sum(node.input[0] not in int8 for node in convolutions)} of {len(convolutions)}"


def in_turn(outputs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A network whose outputs of all judged crops are known, asked for them in their order."""
    left = iter(outputs)
    return lambda rows: np.stack([next(left) for _ in rows])


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compared = Comparison(args, Path(folder))
        ways = [compared.onnxruntime("float32", "all", compared.folder / "float.onnx"), *compared.made_here()]
        if args.nncf:
            ways[1:1] = [compared.openvino("float32", "all", compared.folder / "float.onnx")]
            ways += compared.by_nncf()
        if args.msmodelslim:
            ways += compared.by_msmodelslim()
        times = time_alternated({str(number): way.timer for number, way in enumerate(ways) if way.timer}, args.rounds)
        print(f"{args.model}: calibrated on {args.input}, judged on {args.validation}, {len(compared.judged)} crops\n")
        rows = []
        for number, way in enumerate(ways):
            speed = speed_cells(times["0"], times[str(number)]) if way.timer else ["-"] * len(SPEED)
            change = compared.validation.judge(in_turn(way.outputs))
            rows.append((way.name, way.kept, way.runtime, *change_cells(change), *speed))
        print(format_table(("int8 by", "float layers", "run by", *CHANGE, *SPEED), rows))


if __name__ == "__main__":
    sys.exit(exit_code(main))
