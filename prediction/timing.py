"""How long the two networks of predict.py take together, by batch size, in two protocols.

"Sum" is AlphaPose_TRT's: the time of the detector for a batch of images plus that of the pose network for as many
crops, one person an image, without anything between. "End to end" is the pipeline of predict.py on image files:
reading, NMS, crops, all people of each image and drawing are in it, writing is not.
"""
from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import make_folder, read_json, write_file, write_json
from contract.machine import MachineWatch
from contract.onnx_file import sha256_of_model
from contract.pixels import FLOAT32
from contract.run_record import RECORD, sealed
from detection.decoding import Thresholds
from detection.detector import Detector
from pose.pose_nms import pose_nms
from pose.spec import load_spec
from prediction.networks import Finder, Poser
from prediction.output import line_of
from prediction.pipeline import Pipeline, Settings, Work, cut, grouped, joined
from prediction.sources import Frame, Pictures
from prediction.timing_record import NETWORKS, PEOPLE, SUMMARY, draw_images, find_mismatch, record_of

BATCHES = 5  # of each network in a round


class Pair(NamedTuple):
    """A detector and a pose model: backend, model file and device of each."""

    detector: Any  # bench.Run
    pose: Any

    @property
    def label(self) -> str:
        return f"{self.detector.label} + {self.pose.label}"

    @property
    def models(self) -> Dict[str, str]:
        return {"detector": self.detector.model, "pose": self.pose.model}

    def networks(self, cfg: str, yolo_cfg: str) -> Tuple[Finder, Poser]:
        file = {"weights" if self.detector.model.endswith(".weights") else "model": self.detector.model}
        finder = Finder(Detector(**file, cfg=yolo_cfg, backend=self.detector.backend, device=self.detector.device,
                                 batch=self.detector.batch), Thresholds())
        return finder, Poser(self.pose.backend, self.pose.model, load_spec(cfg), self.pose.device, {}, self.pose.batch,
                             self.pose.batch, False)


def time_round(pair: Pair, cfg: str, yolo_cfg: str, source: Pictures, folder: Path) -> Dict[str, Any]:
    """Time the networks alone, and the pipeline on all images once. What they give and the summary, which is returned,
    are written into `folder`: milliseconds of each batch of both networks, seconds of the pipeline and of its stages,
    and the record. Raises UserError for an image that cannot be read, and where the record does not match."""
    shutil.rmtree(folder, ignore_errors=True)
    drawn, what = draw_images(source), Settings(lambda people, areas: pose_nms(people))
    with contextlib.ExitStack() as opened:
        with Pipeline(*pair.networks(cfg, yolo_cfg), what, at_once=False) as pipeline:
            settings = settings_of(pair, pipeline.finder, pipeline.poser)
            watch = MachineWatch(settings["pose"]["device"], pair.pose.device or "")
            opened.callback(watch.end)
            times, outputs = time_networks(pipeline, pair.pose.batch, folder)
        with Pipeline(*pair.networks(cfg, yolo_cfg), what) as pipeline:
            start = time.perf_counter()
            lines = [checked_line(work) for work in pipeline.run(source.names, source.load)]
            spent, machine = time.perf_counter() - start, watch.stop()
    write_file(folder / PEOPLE, b"".join(lines))
    write_json(folder / SUMMARY, sealed({**times, "seconds": spent, "stages": pipeline.seconds,
                                         RECORD: record_of(settings, source, drawn, lines, outputs, machine)}))
    mismatch = find_mismatch(folder, settings, pair.models, source)
    if mismatch:
        raise UserError(f"{pair.label} at batch {pair.pose.batch}: its summary is not of this run: {mismatch}")
    return read_json(folder / SUMMARY, "summary")


def settings_of(pair: Pair, finder: Finder, poser: Poser) -> Dict[str, Any]:
    """What a round depends on."""
    return {"batch": pair.pose.batch, "detector": finder.backend.describe(), "pose": poser.backend.describe(),
            **{f"{name}_sha256": sha256_of_model(model) for name, model in pair.models.items()}}


def time_networks(pipeline: Pipeline, batch: int, folder: Path) -> Tuple[Dict[str, List[float]], Dict[str, str]]:
    """Of each network, one after the other, milliseconds of its batches, and the SHA-256 of the output that is written
    into `folder`."""
    times, outputs = {}, {}
    owners = ((pipeline.finder, pipeline.detecting), (pipeline.poser, pipeline.posing))
    for name, (network, thread) in zip(NETWORKS, owners):
        times[name], rows = thread.submit(alone, network, batch).result()
        outputs[name] = hashlib.sha256(rows.data).hexdigest()
        write_file(make_folder(folder / name) / "0.bin", rows)
    return times, outputs


def alone(network: Any, batch: int) -> Tuple[List[float], np.ndarray]:
    """Milliseconds of each of BATCHES, and what came out, for values drawn at random, the same each time."""
    rows = np.random.default_rng(0).random((batch, *network.spec.input_shape), np.float32)
    rows = rows if network.spec.dtype == FLOAT32 else (255 * rows).astype(np.uint8)
    outputs = network.infer(rows)  # sets up what the others find
    return [milliseconds(network, rows) for _ in range(BATCHES)], np.ascontiguousarray(outputs, np.float32)


def milliseconds(network: Any, rows: np.ndarray) -> float:
    start = time.perf_counter()
    network.infer(rows)
    return 1000 * (time.perf_counter() - start)


def checked_line(work: Work) -> bytes:
    if not work.is_readable:
        raise UserError(f"{work.frame.problem}. Take it out of --images: every image is timed")
    return line_of(work.frame, work.people)


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
