"""Speed of int8 in each runtime of this CPU, all layers or all but some, beside float32 in ONNX Runtime.

    python3 benchmarks/int8_speed.py --batch 8 16

Without a model it is FastPose ResNet-50 with damped random weights: what the numbers are does not change the speed.
Each network runs as its backend runs it, in a process of its own, one after the other and again, so that a change of
the machine meets all. "times as fast" is by the clock, round by round; "by CPU time" is by the least user and system
time of a crop, which other programs change less. Then: what each layer takes in ONNX Runtime, which shows what limits
it, and what each kind of OpenVINO's kernels takes. bf16 and OpenVINO are left out where this machine has none.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import onnx
from onnx import ModelProto

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from backends.rooms import room  # noqa: E402
from benchmarks.gpu import random_weights  # noqa: E402
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least, parse  # noqa: E402
from contract.errors import UserError  # noqa: E402
from contract.machine import describe_machine  # noqa: E402
from contract.room import BF16, FP32  # noqa: E402
from contract.tables import format_table  # noqa: E402
from contract.threads import cpu_limit  # noqa: E402
from layers.graphs import copy_of, load_graph  # noqa: E402
from pose.spec import load_spec  # noqa: E402
from quantization.calibrate import calibrate  # noqa: E402
from quantization.graph import multiplications, prepare  # noqa: E402
from quantization.keep import choose_kept  # noqa: E402
from quantization.qdq import FORMS, to_qdq  # noqa: E402
from quantization.trials import Trials  # noqa: E402

FORM, METHOD = "cpu", "minmax"
KEPT = {"none": (), "first": ("first",), "first, last, upsampled": ("first", "last", "upsampled")}
LAYERS_SHOWN = 12
LEAST = 0.05  # ms per crop of a kernel that is shown
SPEED = ("ms per crop", "times as fast", "CPU ms per crop", "by CPU time")
# The clock's and the CPU's milliseconds of a crop: the median and the least of the runs.
TIMER = """
import sys, time, numpy
sys.path.insert(0, sys.argv[1])
from backends.rooms import open_backend
name, path, runs, batch = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
backend = open_backend(name, path, **dict(one.split("=") for one in sys.argv[6:]))
shape = [batch, *backend.input_shape[1:]]
rows = numpy.random.default_rng(0).standard_normal(shape).astype(backend.input_dtype)
backend.infer(rows)
clock, cpu = [], []
for _ in range(runs):
    started, used = time.perf_counter(), time.process_time()
    backend.infer(rows)
    clock.append(1000 * (time.perf_counter() - started) / batch)
    cpu.append(1000 * (time.process_time() - used) / batch)
print(sorted(clock)[runs // 2], min(cpu))
"""
# OpenVINO's own names of its kernels, and the milliseconds of a crop in each.
KERNELS = """
import collections, json, sys, numpy, openvino
compiled = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True})
request, shape = compiled.create_infer_request(), [size.get_length() for size in compiled.input().partial_shape]
rows, times = numpy.zeros(shape, numpy.float32), collections.defaultdict(list)
for _ in range(int(sys.argv[2])):
    request.infer([rows])
    sums = collections.Counter()
    for one in request.get_profiling_info():
        sums[one.node_type, one.exec_type] += one.real_time.total_seconds() * 1000 / shape[0]
    for kind, ms in sums.items():
        times[kind].append(ms)
print(json.dumps([[*kind, min(each)] for kind, each in times.items()]))
"""


class Times(NamedTuple):
    """Of one network, a value for each round: milliseconds per crop by the clock and by the CPU."""

    clock: List[float]
    cpu: List[float]


class Run(NamedTuple):
    """One row: which layers are float, what runs it, in which precision what is not int8, and the file."""

    kept: str
    backend: str
    precision: str
    path: Path


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("model", nargs="?", help="float32 .onnx that takes any batch (default: the network of --cfg "
                        "with damped random weights)")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="config of the network, where no model is given")
    parser.add_argument("--batch", type=at_least(1), nargs="+", default=[8], help="batch sizes")
    parser.add_argument("--runs", type=at_least(1), default=6, help="batches of a round")
    add_rounds(parser)
    return parse(parser, argv)


def add_rounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=at_least(1), default=5, help="alternated runs of the speed")


def timer(backend: str, path: Any, runs: int, batch: int = 1, **flags: Any) -> List[str]:
    """The command that prints the milliseconds of a crop."""
    return [sys.executable, "-c", TIMER, str(ROOT), backend, str(path), str(runs), str(batch),
            *(f"{flag}={value}" for flag, value in flags.items())]


def time_alternated(commands: Mapping[Any, List[str]], rounds: int) -> Dict[Any, Times]:
    """What each command prints, one after the other and again."""
    times = {name: Times([], []) for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            finished = subprocess.run(command, capture_output=True, text=True)
            if finished.returncode:
                raise UserError(f"{' '.join(command[3:])}: {' '.join(finished.stderr.split()[-30:])}")
            for values, printed in zip(times[name], finished.stdout.split()):
                values.append(float(printed))
    return times


def speed_cells(base: Times, times: Times) -> Tuple[str, str, str, str]:
    """The median of the rounds, and how many times as fast as `base` each round was; the least CPU time, and the same
    of it."""
    ratios = np.divide(base.clock, times.clock)
    return (f"{statistics.median(times.clock):.2f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})",
            f"{min(times.cpu):.2f}", f"{min(base.cpu) / min(times.cpu):.2f}")


def network_of(args: argparse.Namespace, folder: Path) -> ModelProto:
    if args.model:
        return load_graph(args.model)
    checkpoint = random_weights(folder / "random.pth", load_spec(args.cfg))
    subprocess.run([sys.executable, str(ROOT / "pth2onnx.py"), args.cfg, str(checkpoint), str(folder / "network.onnx"),
                    "--batch", "1"], check=True, stdout=subprocess.DEVNULL)
    return load_graph(folder / "network.onnx")


def with_batch(model: ModelProto, batch: int) -> ModelProto:
    fixed = copy_of(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return fixed


def precisions() -> List[str]:
    """Those of OpenVINO here; none where it is not installed."""
    if room("openvino").missing_packages():
        return []
    import openvino

    has = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [FP32, *([BF16] if BF16.upper() in has else [])]


def runs_of(trials: Trials, folder: Path) -> List[Run]:
    """Write the files, and say what is timed; float32 in ONNX Runtime is the first."""
    networks = {"all": trials.model}
    for name, words in KEPT.items():
        named = choose_kept(trials.graph, FORMS[FORM], words)
        networks[f"{name} ({len(named)})"] = to_qdq(trials.model, trials.decide(METHOD, named), FORM)
    runs = []
    for number, (kept, model) in enumerate(networks.items()):
        path = folder / f"{number}.onnx"
        onnx.save(model, str(path))
        runs += [Run(kept, "onnxruntime", FP32, path), *(Run(kept, "openvino", one, path) for one in precisions())]
    return runs


def print_speed(runs: List[Run], args: argparse.Namespace, batch: int) -> None:
    times = time_alternated({one: timer(one.backend, one.path, args.runs, batch, **(
        {"precision": one.precision} if one.backend == "openvino" else {})) for one in runs}, args.rounds)
    print(f"\nBatch {batch}, {args.rounds} rounds:\n")
    print(format_table(("float layers", "runtime", "their precision", *SPEED), [
        (*one[:3], *speed_cells(times[runs[0]], each)) for one, each in times.items()]))


def print_layers(trials: Trials) -> None:
    """The slowest, of the profile of ONNX Runtime."""
    counts, times = multiplications(trials.model), trials.times(METHOD)
    each = [(name, counts[name], *times[name]) for name in times if times[name][1]]
    each = sorted(each, key=lambda one: -one[3])[:LAYERS_SHOWN]
    each.append((f"all {len(times)} layers", sum(counts.values()), *(sum(ms) for ms in zip(*times.values()))))
    print(f"\nONNX Runtime, batch {len(trials.rows)}, milliseconds per crop:\n")
    print(format_table(("layer", "million multiplications", "float32", "int8", "times as fast"), [
        (name, f"{count / 1e6:.0f}", f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.1f}")
        for name, count, slow, fast in each]))


def print_kernels(path: Path, runs: int) -> None:
    printed = subprocess.run([sys.executable, "-c", KERNELS, str(path), str(runs)], check=True, capture_output=True)
    kernels = sorted(json.loads(printed.stdout), key=lambda one: -one[2])
    print("\nOpenVINO, all layers in int8, milliseconds per crop:\n")
    print(format_table(("operator", "kernel", "ms"), [(*names, f"{ms:.2f}") for *names, ms in kernels if ms >= LEAST]))


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name = args.model or args.cfg
        model = prepare(network_of(args, Path(folder)), name)
        shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]]
        rows = np.random.default_rng(0).standard_normal((max(args.batch), *shape), np.float32)
        ranges = calibrate(model, [rows[:1]], name)
        print(f"{name}: {describe_machine()['cpu']}, {cpu_limit() or os.cpu_count()} cores")
        for batch in args.batch:
            trials = Trials(with_batch(model, batch), FORM, ranges, rows[:batch], name)
            runs = runs_of(trials, Path(folder))
            print_speed(runs, args, batch)
        print_layers(trials)
        if precisions():
            print_kernels(Path(folder) / "1.onnx", args.runs)


if __name__ == "__main__":
    sys.exit(exit_code(main))
