"""What causes are tested on: some of the people who differ, and what changes of one side leave of the difference."""
from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Tuple

import numpy as np

from comparison.causes.finding import (
    NOT_TESTED,
    REPRODUCED,
    RULED_OUT,
    Finding,
    judge_trial,
    remainder,
)
from comparison.causes.rerun import Change, Reproduction, Rerun, reproduce
from comparison.decoded import read_people
from comparison.people import match_people
from comparison.results import Options, Result
from pose.metrics import keypoint_distances, relative_distances

SAMPLE = 32  # people whose heatmaps are changed
FEW = 0.25  # of all people: what is wrong with fewer is wrong with them, not with the device

Both = Tuple[np.ndarray, np.ndarray]  # a's and b's


@dataclasses.dataclass
class Case:
    """Two results that differ: in their dumps, or where those agree or are not there, in their keypoints.

    `wrong` are the rows of the people who differ beyond the limit, among `total` people in both; `rows_of_a` are all of
    theirs in a. `fingerprints`, (total, K) each, are peak heights or joint scores. Of dumps: `heatmaps`, (n, K, h, w)
    each, of a sample of wrong people, and what the `model` makes of some of their crops. Of keypoints: `joints`,
    (n, K, 2) each, pixels of the input, of all wrong people. `found` are the causes found so far.
    """

    a: Result
    b: Result
    options: Options
    wrong: np.ndarray
    rows_of_a: np.ndarray
    fingerprints: Both
    heatmaps: Optional[Both] = None
    model: Optional[Reproduction] = None
    joints: Optional[Both] = None
    found: List[Finding] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.rows_of_a)

    @property
    def few(self) -> bool:
        return len(self.wrong) < FEW * self.total

    @property
    def share(self) -> str:
        return f"{len(self.wrong)} of {self.total} people differ beyond the limit"

    def heatmap_trials(self, cause: str, changes: Dict[str, Change]) -> List[Finding]:
        """What each change of heatmaps leaves; either side may be the one."""
        if self.heatmaps is None:
            return [self._no_heatmaps(cause, "needs dumps of both: LABEL=DUMPS[,DUMPS_OF_MIRRORED]")]
        a, b = self.heatmaps
        return [judge_trial(cause, f"{words} in {side}", remainder(change(right), right, wrong))
                for words, change in changes.items() for side, right, wrong in (("b", a, b), ("a", b, a))]

    def crop_trials(self, cause: str, changes: Dict[str, Change]) -> List[Finding]:
        """What the model leaves when its crops, (n, 3, H, W) as the bins hold them, are changed."""
        need = "needs --model FILE.onnx and --input BINS, to run the model with this fault"
        if self.heatmaps is None:
            return [self._no_heatmaps(cause, need)]
        accounted = [finding for finding in self.found if (finding.unexplained or 0) < REPRODUCED]
        if accounted:
            return [Finding(cause, RULED_OUT, f"{accounted[0].title} accounts for the difference")]
        if self.model is None:
            return [Finding(cause, NOT_TESTED, need)]
        if self.model.neither:
            return [Finding(cause, NOT_TESTED, self.model.neither)]
        return [judge_trial(cause, f"{words}, for {self.model.name},", self.model.left_by(change))
                for words, change in changes.items()]

    def _no_heatmaps(self, cause: str, need: str) -> Finding:
        if self.a.readers and self.b.readers:
            return Finding(cause, RULED_OUT, "the dumps agree, so it is nothing before them")
        return Finding(cause, NOT_TESTED, need)


def case_of_dumps(a: Result, b: Result, options: Options, rerun: Optional[Rerun]) -> Case:
    """Of the folder of dumps that differs most."""
    folder = int(relative_distances(b.decoded.sums.sum(axis=(1, 2))).argmax())
    distances = relative_distances(b.decoded.sums[folder].sum(axis=1))
    wrong = np.nonzero(distances > np.sqrt(2 * (1 - options.limits["cosine"])))[0]  # |a - b| / |a| at that cosine
    wrong = wrong if len(wrong) else np.arange(len(distances))
    sample = wrong[np.linspace(0, len(wrong) - 1, min(SAMPLE, len(wrong))).astype(int)]
    heatmaps = read_people(a.readers[folder], sample), read_people(b.readers[folder], sample)
    peaks = a.decoded.peaks[folder], b.decoded.peaks[folder]
    model = reproduce(rerun, sample, *heatmaps) if rerun and folder == 0 else None
    return Case(a, b, options, wrong, np.arange(len(distances)), peaks, heatmaps, model)


def case_of_keypoints(a: Result, b: Result, options: Options) -> Case:
    rows_a, rows_b = match_people(a.people, b.people)
    pixels = a.people.input_pixels(rows_a, options.spec)
    keypoints = a.people.keypoints[rows_a], b.people.keypoints[rows_b]
    off = (keypoint_distances(*keypoints) * pixels[:, None]).mean(axis=1)
    wrong = np.nonzero(off > options.limits["pixels_p95"])[0]
    wrong = wrong if len(wrong) else np.arange(len(rows_a))
    wrong_a, wrong_b = (values[wrong] * pixels[wrong, None, None] for values in keypoints)
    scores = a.people.scores[rows_a], b.people.scores[rows_b]
    return Case(a, b, options, wrong, rows_a, scores, joints=(wrong_a, wrong_b))
