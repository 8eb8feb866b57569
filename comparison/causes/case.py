"""What causes are tested on: some of the people who differ, and what changes of one side leave of the difference."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from comparison.causes.rerun import Change, Rerun, reproduce
from comparison.decoded import read_people
from comparison.finding import NOT_TESTED, RULED_OUT, Finding, Gap, judge_trial, length
from comparison.people import match_people
from comparison.results import Options, Result
from pose.crops import Normalizer, mirror
from pose.metrics import DD, keypoint_distances, relative_distances
from pose.photos import read_photograph

SAMPLE = 16  # people whose heatmaps are changed
RUN = 4  # of them who are run again; a fault that is there reproduces them to rounding
FEW = 0.25  # of all people: what is wrong with fewer is wrong with them, not with the device
NEEDS_MODEL = "needs --model FILE.onnx and --input BINS, to run the model with this fault"
NEEDS_PHOTOS = "needs --dataroot, --manifest, --model and --input, to cut the crops from their photos again"

Cut = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (H0, W0, 3) photo, (4,) crop_xyxy -> (H, W, 3) crop, uint8
Both = Tuple[np.ndarray, np.ndarray]  # a's and b's


@dataclasses.dataclass
class Case:
    """Two results that differ: in their dumps, or where those agree or are not there, in their keypoints.

    `wrong` are the rows of the people who differ beyond the limit, among all in both, whose rows in a are `rows_of_a`;
    `rest` is the share of the difference that lies with the others. `fingerprints`, (N, K) each, are peak heights or
    joint scores. Of dumps: `folder` 0 or 1 of the mirrored bins, rows of a `sample` of wrong people, their `heatmaps`,
    (n, K, h, w) each, and what the `model` makes of some of their crops. Of keypoints: `joints`, (n, K, 2) each,
    pixels of the photo, of all wrong people, and `pixels`, (n,) of the input to one of these; `joints_differ`: at all.
    """

    a: Result
    b: Result
    options: Options
    wrong: np.ndarray
    rows_of_a: np.ndarray
    rest: float
    fingerprints: Both
    folder: int = 0
    sample: Any = None  # np.ndarray
    heatmaps: Any = None  # Both
    model: Any = None  # Reproduction
    joints: Any = None  # Both
    pixels: Any = None  # np.ndarray
    joints_differ: bool = True

    @property
    def total(self) -> int:
        return len(self.rows_of_a)

    @property
    def few(self) -> bool:
        return len(self.wrong) < FEW * self.total

    @property
    def share(self) -> str:
        return f"{len(self.wrong)} of {self.total} people differ beyond the limit"

    def is_rest_inside(self, unexplained: float) -> bool:
        """Whether that part of the difference of heatmaps is inside the gate, by its cosine; of keypoints any is."""
        if self.heatmaps is None:
            return True
        a, b = self.heatmaps
        varied = min(length(values - values.mean(dtype=np.float64)) for values in (a, b))
        return bool(unexplained * min(length(a - b), varied) <= apart(self.options) * varied)

    def heatmap_trials(self, cause: str, changes: Dict[str, Change]) -> List[Finding]:
        """What each change of heatmaps leaves; either side may be the one."""
        if self.heatmaps is None:
            return [self.no_heatmaps(cause, "needs dumps of both: LABEL=DUMPS[,DUMPS_OF_MIRRORED]")]
        a, b = self.heatmaps
        sides = ("b", a, Gap(a, b)), ("a", b, Gap(b, a))
        with np.errstate(over="ignore", invalid="ignore"):
            return [judge_trial(cause, f"{words} in {side}", gap.left(change(right)))
                    for words, change in changes.items() for side, right, gap in sides]

    def crop_trials(self, cause: str, changes: Dict[str, Change]) -> List[Finding]:
        """What the model leaves when its crops, (n, 3, H, W) as the bins hold them, are changed."""
        missing = self.no_model(cause)
        if missing or self.model is None:
            return [missing or Finding(cause, NOT_TESTED, NEEDS_MODEL)]
        run = self.model
        return [run.judge(cause, words, lambda change=change: run.rerun.infer(change(run.crops)))
                for words, change in changes.items()]

    def photo_trials(self, cause: str, cuts: Dict[str, Cut],
                     read: Callable[[Path], np.ndarray] = read_photograph) -> List[Finding]:
        """What the model leaves when its crops are cut from the photos in other ways."""
        missing, run = self.no_model(cause), self.model
        if missing or run is None or run.rerun.photos is None or not self.a.readers:
            return [missing or Finding(cause, NOT_TESTED, NEEDS_PHOTOS)]
        photos, manifest = run.rerun.photos, self.a.manifest
        images = [read(photos.path(int(manifest["image_id"][row]))) for row in run.rows]
        boxes = manifest["crop_xyxy"][run.rows].astype(np.float32)
        normalise = Normalizer(self.options.spec.mean, self.options.spec.std)

        def heatmaps(cut: Cut) -> np.ndarray:
            crops = np.stack([normalise(cut(image, box)) for image, box in zip(images, boxes)])
            return run.rerun.infer(mirror(crops) if run.mirrored else crops)

        return [run.judge(cause, words, lambda cut=cut: heatmaps(cut)) for words, cut in cuts.items()]

    def no_model(self, cause: str) -> Optional[Finding]:
        """Why the model cannot be run to test a cause, or None."""
        if self.heatmaps is None:
            return self.no_heatmaps(cause, NEEDS_MODEL)
        if self.model is None:
            return Finding(cause, NOT_TESTED, NEEDS_MODEL)
        return Finding(cause, NOT_TESTED, self.model.neither) if self.model.neither else None

    def no_heatmaps(self, cause: str, need: str) -> Finding:
        if self.a.holds_heatmaps and self.b.holds_heatmaps:
            return Finding(cause, RULED_OUT, "the dumps agree, so it is nothing before them")
        return Finding(cause, NOT_TESTED, need)


def case_of_dumps(a: Result, b: Result, options: Options, rerun: Optional[Rerun]) -> Case:
    """Of the folder of dumps that differs most."""
    folder = int(relative_distances(b.decoded.sums.sum(axis=(1, 2))).argmax())
    sums = b.decoded.sums[folder].sum(axis=1)
    wrong = np.nonzero(relative_distances(sums) > apart(options))[0]
    wrong = wrong if len(wrong) else np.arange(len(sums))
    sample = wrong[neighbours(len(wrong), SAMPLE)]
    heatmaps = read_people(a.readers[folder], sample), read_people(b.readers[folder], sample)
    peaks = a.decoded.peaks[folder], b.decoded.peaks[folder]
    few = neighbours(len(sample), RUN)
    a_few, b_few = (each[few] for each in heatmaps)
    model = reproduce(rerun, sample[few], a_few, b_few, folder == 1) if rerun else None
    return Case(a, b, options, wrong, np.arange(len(sums)), _rest(np.sqrt(sums[:, DD]), wrong), peaks, folder, sample,
                heatmaps, model)


def apart(options: Options) -> float:
    """How far heatmaps may be apart, relative to their length: as far as those are whose cosine is at the limit."""
    return float(np.sqrt(2 * (1 - options.limits["cosine"])))


def case_of_keypoints(a: Result, b: Result, options: Options) -> Case:
    rows_a, rows_b = match_people(a.people, b.people)
    pixels = a.people.input_pixels(rows_a, options.spec)
    keypoints = a.people.keypoints[rows_a], b.people.keypoints[rows_b]
    off = (keypoint_distances(*keypoints) * pixels[:, None]).mean(axis=1)
    wrong = beyond = np.nonzero(off > options.limits["pixels_p95"])[0]
    wrong = wrong if len(wrong) else np.arange(len(rows_a))
    scores = a.people.scores[rows_a], b.people.scores[rows_b]
    return Case(a, b, options, wrong, rows_a, _rest(off, wrong), scores,
                joints=(keypoints[0][wrong], keypoints[1][wrong]), pixels=pixels[wrong],
                joints_differ=len(beyond) > 0)


def neighbours(count: int, most: int) -> np.ndarray:
    """At most so many of range(count), from all over it, in twos that follow each other: files are mostly shifted by
    one."""
    if count <= most:
        return np.arange(count)
    starts = np.linspace(0, count - 2, most // 2).astype(int)
    return np.unique([starts, starts + 1])


def _rest(differences: np.ndarray, wrong: np.ndarray) -> float:
    """Of (N,) differences, the share (of their norm) that is not of `wrong`."""
    return float(np.linalg.norm(np.delete(differences, wrong)) / max(np.linalg.norm(differences), 1e-30))
