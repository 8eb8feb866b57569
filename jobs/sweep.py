"""TensorRT and PyTorch on the same inputs: latency, throughput and speed-up at every batch size.

bench.py times and compares; what is exported, built and cut out once is kept in the work folder.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import List

from contract.stage import Stage, stage

PRECISIONS = ("fp32", "fp16")
GPU = "0"  # that engines are built for


def machine_checks(args: argparse.Namespace) -> List[Stage]:
    tensorrt = [stage("-m", "backends.tensorrt.check", "--precision", "fp16", "--device", GPU)]
    return tensorrt if args.device == "cpu" else [*tensorrt, stage("-m", "backends.pytorch.check")]


def plan(args: argparse.Namespace) -> List[Stage]:
    """FastPose on the crops of annotated people, then the detector on whole photos."""
    bins, letterboxed = args.work / "prep_data", args.work / "letterboxed"
    pose, detector = (args.work / "models" / f"{file.stem}.onnx" for file in (args.checkpoint, args.weights))
    limit = ("--limit", args.photographs)
    return [
        stage("preprocess.py", "--dataroot", args.dataroot, "--gt_boxes", *limit, "--cfg", args.cfg, "--replace",
              "--output", bins, "--output_flip", args.work / "prep_data_flip", reads=(args.dataroot, args.cfg),
              leaves=(bins,)),
        stage("-m", "detection.bins", args.dataroot / "val2017", letterboxed, "--yolo_cfg", args.yolo_cfg, *limit,
              reads=(args.dataroot, args.yolo_cfg), leaves=(letterboxed,)),
        stage("pth2onnx.py", args.cfg, args.checkpoint, pose, reads=(args.cfg, args.checkpoint), leaves=(pose,)),
        stage("-m", "detection.export", args.yolo_cfg, args.weights, detector, reads=(args.yolo_cfg, args.weights),
              leaves=(detector,)),
        *_bench(args, pose, args.checkpoint, args.cfg, bins, 2 * args.photographs),
        *_bench(args, detector, args.weights, args.yolo_cfg, letterboxed, args.photographs)]


def _bench(args: argparse.Namespace, onnx: Path, weights: Path, cfg: Path, bins: Path, rows: int) -> List[Stage]:
    """An engine of each precision and batch size, then all of them against the weights in PyTorch."""
    stages, runs = [], [f"pytorch:{weights}:{args.device} --no-cuda_graph",
                        f"pytorch:{weights}:{args.device} --precision fp16"]
    for precision in PRECISIONS:
        engine = str(onnx.with_name(f"{onnx.stem}_bs{{batch}}_{precision}.engine"))
        runs.append(f"tensorrt:{engine}")
        for batch in args.batch:
            built = Path(engine.format(batch=batch))
            stages.append(stage("-m", "backends.tensorrt.build", onnx, "--precision", precision, "--output", built,
                                "--device", GPU, "--batch", batch, reads=(onnx,), leaves=(built,)))
    output = args.work / onnx.stem
    flags = [word for run in runs for word in ("--run", run)]
    return [*stages, stage("bench.py", *flags, "--cfg", cfg, "--input", bins, "--people", rows, "--batch", *args.batch,
                           "--repeat", args.repeat, "--output", output, reads=(weights, cfg, bins), leaves=(output,))]
