"""How long the two networks of predict.py take together, by batch size, in two protocols.

"Sum" is AlphaPose_TRT's: the time of the detector for a batch of images plus that of the pose network for as many
crops, one person an image, without anything between. "End to end" is the pipeline of predict.py on image files:
reading, NMS, crops, all people of each image and drawing are in it, writing is not.
"""
from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from contract.errors import UserError
from contract.tables import format_table
from detection.decoding import Thresholds
from detection.detector import Detector
from pose.pose_nms import pose_nms
from pose.spec import load_spec
from prediction.networks import Finder, Poser
from prediction.pipeline import Pipeline, Settings, Work, cut, grouped, joined
from prediction.sources import Frame, Pictures, find_sources

COLUMNS = ("run", "batch", "detector ms", "pose ms", "sum ms", "images/s of the sum", "factor", "images/s end to end",
           "factor end to end")


class Pair(NamedTuple):
    """A detector and a pose model: backend, model file and device of each."""

    detector: Any  # bench.Run
    pose: Any

    @property
    def label(self) -> str:
        return f"{self.detector.label} + {self.pose.label}"

    def networks(self, cfg: str, yolo_cfg: str) -> tuple:
        file = {"weights" if self.detector.model.endswith(".weights") else "model": self.detector.model}
        finder = Finder(Detector(**file, cfg=yolo_cfg, backend=self.detector.backend, device=self.detector.device,
                                 batch=self.detector.batch), Thresholds())
        return finder, Poser(self.pose.backend, self.pose.model, load_spec(cfg), self.pose.device, {}, self.pose.batch,
                             self.pose.batch, False)


def bench_pipeline(pairs: Sequence[Pair], cfg: str, yolo_cfg: str, images: str, repeat: int) -> str:
    """A table of all pairs, and where the time of the last goes. Factors are to the first pair of the same batch."""
    source = find_sources([images], Path())[0]
    if not isinstance(source, Pictures):
        raise UserError(f"{images}: expected a folder of pictures")
    measured = [measure(pair, cfg, yolo_cfg, source, repeat) for pair in pairs]
    rows = []
    for pair, row in zip(pairs, measured):
        first = next(one for other, one in zip(pairs, measured) if other.pose.batch == pair.pose.batch)
        batch = pair.pose.batch
        rows.append([pair.label, batch, *(f"{1000 * row[name]:.2f}" for name in ("detector", "pose", "sum")),
                     f"{batch / row['sum']:.2f}", f"{first['sum'] / row['sum']:.2f}", f"{row['rate']:.2f}",
                     f"{row['rate'] / first['rate']:.2f}"])
    stages = [[stage, f"{1000 * seconds / len(source.names) / repeat:.2f}"]
              for stage, seconds in measured[-1]["stages"].items()]
    return "\n\n".join([format_table(COLUMNS, rows),
                        f"Where the time goes, {pairs[-1].label} at batch {pairs[-1].pose.batch}:",
                        format_table(["stage", "ms an image at work"], stages)])


def measure(pair: Pair, cfg: str, yolo_cfg: str, source: Pictures, repeat: int) -> Dict[str, Any]:
    """Seconds of a batch in each network, images a second end to end, and seconds of its stages; medians of rounds."""
    finder, poser = pair.networks(cfg, yolo_cfg)
    times = {}
    for name, network in (("detector", finder), ("pose", poser)):
        rows = np.random.default_rng(0).random((pair.pose.batch, *network.spec.input_shape)).astype(np.float32)
        network.open()
        with contextlib.closing(network):
            network.infer(rows)  # sets up what the others find
            times[name] = float(np.median([seconds(network, rows) for _ in range(5 * repeat)]))
    rates = []
    with Pipeline(finder, poser, Settings(lambda people, areas: pose_nms(people))) as pipeline:
        for _ in range(repeat):
            start = time.perf_counter()
            for _ in pipeline.run(source.names, source.load):
                pass
            rates.append(len(source.names) / (time.perf_counter() - start))
    return {**times, "sum": sum(times.values()), "rate": float(np.median(rates)), "stages": dict(pipeline.seconds)}


def one_after_another(pipeline: Pipeline, frames: Sequence[Frame],
                      tracker: Any) -> Tuple[List[Work], Dict[str, float]]:
    """Every stage works on all frames, alone, before the next begins: what came out, and seconds of each stage."""
    took: Dict[str, float] = {}

    def stage(name: str, work: Any, items: Iterable[Any]) -> List[Any]:
        start, before = time.perf_counter(), list(items)
        done = [work(item) for item in before]
        took[name] = time.perf_counter() - start
        return done

    works = stage("read", pipeline.read, frames)
    if pipeline.finder:
        groups = stage("detect", lambda group: pipeline.detecting.submit(pipeline.detect, group).result(),
                       grouped(works, pipeline.finder.batch))
        works = [work for group in groups for work in group]
    works = stage("crop", pipeline.crop, works)
    batches = stage("pose", lambda batch: pipeline.posing.submit(pipeline.pose, batch).result(),
                    cut(works, pipeline.poser.batch))
    works = stage("people", lambda work: pipeline.join(work, tracker), joined(batches))
    return stage("draw", pipeline.draw, works), took


def seconds(network: Any, rows: np.ndarray) -> float:
    start = time.perf_counter()
    network.infer(rows)
    return time.perf_counter() - start
