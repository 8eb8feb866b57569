"""What int8 costs and wins: accuracy of each method with and without kept layers, speed, and the price of calibration.

    python3 benchmarks/int8.py models/fast_res50_256x192.onnx --input ./prep_data_train --validation ./prep_data \\
        --dataroot ./data/coco

Speed is that of ONNX Runtime, one crop at a time; benchmarks/int8_speed.py has other runtimes and batches.

    python3 benchmarks/int8.py models/fast_res50_256x192.onnx --crops 10000 --input ./data/coco/val2017 \\
        --boxes ./data/coco/detections.json --cfg configs/256x192_res50_lr1e-3_1x.yaml

calibrates on so many crops, of the boxes and of boxes moved at random, and tells seconds and peak memory.
"""
from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from benchmarks.int8_speed import SPEED, add_rounds, speed_cells, time_alternated, timer  # noqa: E402
from contract.arguments import HelpFormatter, at_least  # noqa: E402
from contract.bins import open_bins  # noqa: E402
from contract.files import write_file, write_json  # noqa: E402
from contract.ranges import METHODS  # noqa: E402
from contract.tables import format_table  # noqa: E402
from layers.graphs import load_graph  # noqa: E402
from pose.annotations import load_annotations  # noqa: E402
from quantization.calibrate import calibrate  # noqa: E402
from quantization.crops import batches, few_of, open_source, share_out  # noqa: E402
from quantization.evaluation import Change, Validation  # noqa: E402
from quantization.graph import prepare  # noqa: E402
from quantization.keep import WORDS, choose_kept  # noqa: E402
from quantization.qdq import FORMS, to_qdq  # noqa: E402
from quantization.report import ap_of  # noqa: E402
from quantization.running import Network  # noqa: E402
from quantization.search import MEASURED, order_layers  # noqa: E402
from quantization.trials import Trials  # noqa: E402

RUNS, LAYERS_SHOWN = 30, 12
CHANGE = ("cosine", "moved joints", "OKS drop", "OKS change", "AP (95 % interval of the change)")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    add_data(parser)
    parser.add_argument("--kept", type=at_least(0), nargs="+", default=[4, 8], help="numbers of layers to keep as the "
                        "search orders them")
    add_rounds(parser)
    parser.add_argument("--crops", type=at_least(1), help="measure nothing but the calibration, on so many crops of "
                        "the photos of --input")
    parser.add_argument("--boxes", help="for --crops: detections file of the people on these photos")
    parser.add_argument("--cfg", help="for --crops: config of the model")
    args = parser.parse_args(argv)
    if args.crops and not (args.boxes and args.cfg):
        parser.error("--crops needs --boxes and --cfg")
    return args


def add_data(parser: argparse.ArgumentParser) -> None:
    """The network, and the bins that int8 is made and judged on."""
    parser.add_argument("model", help="float32 .onnx of a pose network that takes any batch")
    parser.add_argument("--input", default="./prep_data_train", help="bins to calibrate on")
    parser.add_argument("--validation", default="./prep_data", help="bins to judge on, of other photos")
    parser.add_argument("--dataroot", default="./data/coco", help="their annotations: a data root, or the file")


def measure_accuracy(trials: Trials, corrected: List[np.ndarray], validation: Validation,
                     counts: List[int]) -> Dict[str, bytes]:
    """Print the table, with shifts measured on the rows `corrected`; the networks of the best method whose speed is of
    interest, by name."""
    words = choose_kept(trials.graph, FORMS["cpu"], WORDS)
    rows, best = [], min(METHODS, key=lambda method: trials.distance(trials.decide(method, {})))
    for method in METHODS:
        for name, kept in (("nothing", {}), (" ".join(WORDS), words)):
            trials.bias = {}
            rows.append(measure(trials, validation, method, f"{name} ({len(kept)})", kept))
        trials.correct(method, corrected)
        rows.append(measure(trials, validation, f"{method}, corrected", "nothing (0)", {}))
        rows.append(measure(trials, validation, f"{method}, corrected", f"{' '.join(WORDS)} ({len(words)})", words))
    trials.correct(best, corrected)
    layers = order_layers(trials, best, trials.times(best))
    for count in counts:
        kept = dict.fromkeys([layer.name for layer in layers[:count]], MEASURED)
        rows.append(measure(trials, validation, f"{best}, corrected", f"as searched ({count})", kept))
    print(format_table(("method", "kept", *CHANGE), rows))
    slowest = sorted(layers, key=lambda layer: -layer.int8_ms)[:LAYERS_SHOWN]
    print("\n" + format_table(("slowest layers in int8", "ms float32", "ms int8", "effect"), [
        (layer.name, f"{layer.float_ms:.2f}", f"{layer.int8_ms:.2f}", f"{layer.effect:.2g}") for layer in slowest]))
    made = {f"int8, {count} layers kept": [layer.name for layer in layers[:count]] for count in (0, *counts)}
    made["int8, the words kept"] = list(words)
    return {"float32": trials.model.SerializeToString(), **{
        name: to_qdq(trials.model, trials.decide(best, dict.fromkeys(kept, ""))).SerializeToString()
        for name, kept in made.items()}}


def measure(trials: Trials, validation: Validation, method: str, name: str, kept: Dict[str, str]) -> Tuple[str, ...]:
    change = validation.judge(trials.network(trials.decide(method.split(",")[0], kept)).infer)
    return (method, name, *change_cells(change))


def change_cells(change: Change) -> Tuple[str, ...]:
    """Under the headings CHANGE."""
    oks = "{:+.4f} ± {:.4f}".format(*change.oks) if change.oks else "-"
    return (f"{change.cosine:.4f}", f"{change.moved:.3f}", f"{change.drop_oks:.4f}", oks, ap_of(change))


def measure_speed(models: Dict[str, bytes], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        commands = {}
        for number, (name, content) in enumerate(models.items()):
            write_file(Path(folder) / f"{number}.onnx", content)
            commands[name] = timer("onnxruntime", f"{folder}/{number}.onnx", RUNS)
        times = time_alternated(commands, rounds)
    print("\n" + format_table(("network", *SPEED), [
        (name, *speed_cells(times["float32"], one)) for name, one in times.items()]))


def moved_boxes(boxes: str, count: int) -> List[Dict[str, object]]:
    """The people of a detections file, each again and again: moved by up to a tenth of the box, a fifth larger or
    smaller. People of one photo lie beside each other."""
    found = json.loads(Path(boxes).read_text())
    rng, people = np.random.default_rng(0), []
    for number in range(count):
        person = found[number * len(found) // count]
        x, y, width, height = person["bbox"]
        dx, dy = rng.uniform(-0.1, 0.1, 2) * (width, height)
        scale = rng.uniform(0.8, 1.2)
        people.append({**person, "bbox": [x + dx, y + dy, width * scale, height * scale]})
    return people


def measure_calibration(args: argparse.Namespace) -> None:
    model, started = prepare(load_graph(args.model), args.model), time.perf_counter()
    before = peak_memory()
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "boxes.json", moved_boxes(args.boxes, args.crops))
        source = open_source(args.input, args.cfg, Path(folder) / "boxes.json")
        ranges = calibrate(model, batches(source, range(len(source)), 1), args.model)
    seconds = time.perf_counter() - started
    print(f"{len(source)} crops, {len(ranges)} tensors: {seconds:.1f} s ({time.process_time():.1f} s of CPU), peak "
          f"memory {peak_memory():.0f} MB ({before:.0f} MB before)")


def peak_memory() -> float:
    """MB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    args = parse_args()
    if args.crops:
        measure_calibration(args)
        return
    bins = open_bins(Path(args.input), None)
    model = prepare(load_graph(args.model), args.model)
    calibrated, tried = share_out(bins, sum(bins.rows))
    ranges = calibrate(model, batches(bins, calibrated, 1), args.model)
    trials = Trials(model, "cpu", ranges, np.concatenate(list(batches(bins, tried, None))), args.model)
    corrected = list(batches(bins, few_of(calibrated), None))
    validation = Validation(open_bins(Path(args.validation), None), load_annotations(args.dataroot),
                            Network(model.SerializeToString(), args.model).infer)
    print(f"{args.model}: calibrated on {args.input}, measured on {args.validation} ("
          f"{sum(validation.bins.rows)} crops)\n")
    measure_speed(measure_accuracy(trials, corrected, validation, args.kept), args.rounds)


if __name__ == "__main__":
    sys.exit(exit_code(main))
