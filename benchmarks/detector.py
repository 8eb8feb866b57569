"""Photos per second and peak memory of the detector at batch 1: ONNX Runtime against the network in eager torch.

    python3 benchmarks/detector.py --images ./data/coco/val2017 --weights models/yolov3-spp.weights

Each runtime has a process of its own, and they take turns over the same photos, so that what else the machine
does meets both. Without --weights the network is YOLOv3-SPP with random numbers, whose cost is the same.
"""
from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from contract.arguments import HelpFormatter  # noqa: E402
from detection.blocks import Convolution, Network, Shortcut  # noqa: E402
from detection.darknet import Arrays, read_cfg, write_weights  # noqa: E402
from detection.decoding import Thresholds, anchor_rows, find_people  # noqa: E402
from detection.detector import (  # noqa: E402
    SPP_CFG,
    Detector,
    Photograph,
    detect_groups,
    find_photographs,
    open_detector,
    people_records,
    read_ahead,
    read_letterboxed,
)

BASELINE, OURS = "pytorch", "onnxruntime"
MAX_RELATIVE_ERROR = 1e-5  # of the largest value, between the two: no speed-up is printed for other numbers
OBJECTNESS = -7.0  # bias of random heads: some dozens of 22,743 rows pass 0.1, as in a photo with people


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--images", default="./data/coco/val2017", help="folder of photos")
    parser.add_argument("--yolo_cfg", default=os.path.relpath(SPP_CFG), help="darknet's .cfg")
    parser.add_argument("--weights", help="darknet's .weights of --yolo_cfg (default: random numbers)")
    parser.add_argument("--photographs", type=int, default=10, help="photos per turn, the first ones by id")
    parser.add_argument("--turns", type=int, default=5, help="turns of each runtime; the median is printed")
    return parser.parse_args(argv)


def random_weights(network: Network) -> List[Arrays]:
    """Activations neither grow nor vanish; few rows of the heads pass the confidence, and all of them are people."""
    rng, weights = np.random.default_rng(0), []
    for block, following in zip(network.blocks, network.blocks[1:]):
        if isinstance(block, Convolution):
            gain = 0.1 if isinstance(following, Shortcut) else 1
            arrays = {name: np.full(shape, name in ("scale", "variance"), np.float32)
                      for name, shape in block.layout().items()}
            fan_in = np.prod(arrays["kernel"].shape[1:])
            arrays["kernel"] = (rng.standard_normal(arrays["kernel"].shape, np.float32) * gain * np.sqrt(2 / fan_in))
            if not block.batch_normalize:
                rows = arrays["bias"].reshape(len(network.heads[0].anchors), -1)
                rows[:, 4], rows[:, 5] = OBJECTNESS, 5
            weights.append({name: values.astype(np.float32) for name, values in arrays.items()})
    return weights


def serve(detector: Detector, photographs: List[Photograph], connection: Connection) -> None:
    """One runtime in its process: the rows of a photo first, then a turn for each message, memory at the end."""
    network = read_cfg(detector.cfg)
    with open_detector(detector, network) as backend:
        connection.send(backend.infer(read_letterboxed(photographs[0], (network.width, network.height)).tensor[None]))
        while connection.recv():
            start = time.perf_counter()
            groups = read_ahead(photographs, network, 1, None)
            people = sum(len(records) for found in detect_groups(groups, backend, network, Thresholds())
                         for records in found.values())
            seconds = time.perf_counter() - start
            connection.send({"photos per second": len(photographs) / seconds, "people": people,
                             **time_parts(photographs, backend, network)})
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def time_parts(photographs: List[Photograph], backend, network: Network) -> Dict[str, float]:
    """Milliseconds of a photo, one step after another; each is the median."""
    anchors, times = anchor_rows(network), []
    for photograph in photographs:
        ticks = [time.perf_counter()]
        item = read_letterboxed(photograph, (network.width, network.height))
        ticks.append(time.perf_counter())
        rows = backend.infer(item.tensor[None])[0]
        ticks.append(time.perf_counter())
        people_records(item, find_people(rows, anchors, Thresholds()), network)
        ticks.append(time.perf_counter())
        times.append(np.diff(ticks) * 1e3)
    return dict(zip(("before, ms", "network, ms", "after, ms"), np.median(times, axis=0).tolist()))


def compare(detectors: Dict[str, Detector], photographs: List[Photograph], turns: int) -> None:
    """Let both runtimes take turns, and print what each needs."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, detector in detectors.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(detector, photographs, theirs)))
        processes[-1].start()
    rows = {name: pipe.recv() for name, pipe in pipes.items()}
    error = np.abs(rows[OURS] - rows[BASELINE]).max() / np.abs(rows[BASELINE]).max()
    measured: Dict[str, List[dict]] = {name: [] for name in pipes}
    for turn in range(turns + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            result = pipe.recv()
            if turn:  # the first is a warm-up
                measured[name].append(result)
    for pipe in pipes.values():
        pipe.send(False)
    memory = {name: pipe.recv() for name, pipe in pipes.items()}
    for process in processes:
        process.join()
    report(measured, memory, error)


def report(measured: Dict[str, List[dict]], memory: Dict[str, float], error: float) -> None:
    print(f"largest difference of the two networks' outputs: {error:.1e} of the largest value")
    medians = {name: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
               for name, turns in measured.items()}
    print("| runtime | photos per second | before, ms | network, ms | after, ms | share of before and after "
          "| people | peak memory, MB |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, values in medians.items():
        around = values["before, ms"] + values["after, ms"]
        print(f"| {name} | {values['photos per second']:.2f} | {values['before, ms']:.1f} "
              f"| {values['network, ms']:.1f} | {values['after, ms']:.1f} "
              f"| {around / (around + values['network, ms']):.1%} | {values['people']:.0f} | {memory[name]:.0f} |")
    if error <= MAX_RELATIVE_ERROR:
        ratio = [ours["photos per second"] / theirs["photos per second"]
                 for ours, theirs in zip(measured[OURS], measured[BASELINE])]
        print(f"{OURS} is {statistics.median(ratio):.2f} times {BASELINE} "
              f"(turns: {min(ratio):.2f} to {max(ratio):.2f})")


def main() -> None:
    args = parse_args()
    photographs = find_photographs(args.images)[:args.photographs]
    with tempfile.TemporaryDirectory() as folder:
        weights = args.weights or os.path.join(folder, "random.weights")
        if not args.weights:
            network = read_cfg(args.yolo_cfg)
            write_weights(weights, network, random_weights(network))
        detectors = {name: Detector(weights=weights, cfg=args.yolo_cfg, backend=name) for name in (BASELINE, OURS)}
        compare(detectors, photographs, args.turns)


if __name__ == "__main__":
    sys.exit(exit_code(main))
