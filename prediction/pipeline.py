"""From frames to drawn frames with their people: every stage runs at once, in order, a few items deep.

Decoding, the detector, cropping, the pose network, drawing and writing overlap. What lies between two stages is
bounded, so a video of any length takes the memory of a short one.
"""
from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np

from contract.threads import in_order, share_cores
from pose.boxes import areas_of
from pose.drawing import draw_people
from pose.poses import People, nobody
from prediction.networks import Finder, Poser
from prediction.sources import Frame

CORES = os.cpu_count() or 1
WAITING_FRAMES = 8  # at most so many wait until a batch of crops is full: the people of some may be long in coming

Boxes = Callable[[Frame], Tuple[np.ndarray, np.ndarray]]  # (N, 4) corners and (N,) scores that somebody else found


@dataclasses.dataclass
class Work:
    """A frame on its way. A field that a later stage fills in is None until then."""

    frame: Frame
    tensor: Any = None  # the detector's input
    boxes_xyxy: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 4), np.float32))
    box_scores: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    crops: List[np.ndarray] = dataclasses.field(default_factory=list)
    crop_xyxy: Any = None  # (N, 4)
    heatmaps: List[np.ndarray] = dataclasses.field(default_factory=list)
    people: Any = None  # People
    drawn: Any = None  # (H, W, 3) uint8 RGB

    @property
    def is_readable(self) -> bool:
        return not self.frame.problem


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is done with the people of each image: `nms` of the people and the areas of their crops, and drawing."""

    nms: Callable[[People, np.ndarray], People]
    show_boxes: bool = False


class Pipeline:
    """The stages, open as a context; `run` takes the frames of one source after another.

    With `at_once`, both networks run at the same time, and each computes with half of the cores; a pose network alone
    with all but one. With all of them, its threads wait for those of the others, and burn what the other stages need.
    """

    def __init__(self, finder: Optional[Finder], poser: Poser, settings: Settings, boxes: Optional[Boxes] = None,
                 at_once: bool = True):
        self.finder: Any = finder
        self.poser, self.settings, self.boxes = poser, settings, boxes
        self.network_threads = max(1, CORES // 2 if finder else CORES - 1) if at_once else None
        self.seconds: Dict[str, float] = {}  # that each stage was at work, in all its threads
        self.lock = Lock()
        self.opened = contextlib.ExitStack()

    def __enter__(self) -> Pipeline:
        with contextlib.ExitStack() as opened:
            self.hands = opened.enter_context(ThreadPoolExecutor(CORES))
            self.detecting, self.posing = (opened.enter_context(ThreadPoolExecutor(
                1, initializer=share_cores, initargs=(self.network_threads,))) for _ in range(2))
            for network, thread in ((self.finder, self.detecting), (self.poser, self.posing)):
                if network:
                    thread.submit(network.open).result()
                    opened.callback(_close, network, thread)
            self.opened = opened.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.opened.close()

    def run(self, frames: Iterable[Any], load: Callable[[Any], Frame], tracker: Any = None,
            draw: bool = True) -> Iterator[Work]:
        """`load` of each of `frames`, with its people and its drawing, in order. A tracker numbers the people."""
        with ThreadPoolExecutor(1) as in_turn:
            works = in_order(self.hands, self._timed("read", lambda item: self.read(load(item))), frames, CORES + 2)
            if self.finder:
                groups = grouped(works, self.finder.batch)
                found = in_order(self.detecting, self._timed("detect", self.detect), groups)
                works = (work for group in found for work in group)
            works = in_order(self.hands, self._timed("crop", self.crop), works)
            batches = in_order(self.posing, self._timed("pose", self.pose), cut(works, self.poser.batch))
            works = in_order(in_turn, self._timed("people", lambda work: self.join(work, tracker)), joined(batches))
            yield from in_order(self.hands, self._timed("draw", self.draw), works, CORES + 1) if draw else works

    def _timed(self, name: str, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def timed(item: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(item)
            finally:
                with self.lock:
                    self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start

        return timed

    def read(self, frame: Frame) -> Work:
        work = Work(frame)
        if self.finder and work.is_readable:
            work.tensor = self.finder.prepare(frame.image)
        return work

    def detect(self, works: List[Work]) -> List[Work]:
        readable = [work for work in works if work.tensor is not None]
        if readable:
            for work, rows in zip(readable, self.finder.infer([work.tensor for work in readable])):
                work.boxes_xyxy, work.box_scores = self.finder.boxes(rows, work.frame.image)
                work.tensor = None
        return works

    def crop(self, work: Work) -> Work:
        if self.boxes and work.is_readable:
            work.boxes_xyxy, work.box_scores = self.boxes(work.frame)
        if len(work.boxes_xyxy):
            work.crops, work.crop_xyxy = self.poser.crops(work.frame.image, work.boxes_xyxy)
        return work

    def pose(self, batch: Tuple[List[np.ndarray], List[Work]]) -> Tuple[np.ndarray, List[Work]]:
        crops, ended = batch
        return (self.poser.infer(crops) if crops else np.zeros(0)), ended

    def join(self, work: Work, tracker: Any) -> Work:
        people = nobody(len(self.poser.spec.skeleton))
        if len(work.boxes_xyxy):
            people = self.poser.people(work.heatmaps, work.crop_xyxy, work.boxes_xyxy, work.box_scores)
            people = self.settings.nms(people, areas_of(work.crop_xyxy))
            work.heatmaps = []
        if tracker is not None and work.is_readable:
            ids = tracker.update(work.frame.image, people)
            people = dataclasses.replace(people, ids=ids).take(np.flatnonzero(ids))
        work.people = people
        return work

    def draw(self, work: Work) -> Work:
        if work.frame.image is not None:
            work.drawn = draw_people(work.frame.image, work.people, self.settings.show_boxes, self.poser.spec.skeleton)
        return work


def _close(network: Any, thread: ThreadPoolExecutor) -> None:
    thread.submit(network.close).result()


def grouped(works: Iterable[Work], size: int) -> Iterator[List[Work]]:
    """Lists of `size`, the last one shorter."""
    group: List[Work] = []
    for work in works:
        group.append(work)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def cut(works: Iterable[Work], size: int) -> Iterator[Tuple[List[np.ndarray], List[Work]]]:
    """Batches of `size` crops across frames, each with the frames whose last crop it holds, or that have none."""
    crops: List[np.ndarray] = []
    ended: List[Work] = []
    for work in works:
        for crop in work.crops:
            if len(crops) == size:
                yield crops, ended
                crops, ended = [], []
            crops.append(crop)
        ended.append(work)
        if len(ended) == WAITING_FRAMES:
            yield crops, ended
            crops, ended = [], []
    if ended:
        yield crops, ended


def joined(batches: Iterable[Tuple[np.ndarray, List[Work]]]) -> Iterator[Work]:
    """The frames of `cut`, each with the rows of its own crops."""
    rows: Deque[np.ndarray] = deque()
    for batch, ended in batches:
        rows.extend(batch)
        for work in ended:
            work.heatmaps = [rows.popleft() for _ in work.crops]
            work.crops = []
            yield work
