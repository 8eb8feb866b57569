"""What int8 changes: of the output, and of people's joints where the network gives heatmaps."""
from __future__ import annotations

import dataclasses
from typing import Callable, Optional, Tuple

import numpy as np

from contract.bins import BinReader
from contract.errors import UserError
from contract.manifest import Manifest
from pose.annotations import Annotations
from pose.bootstrap import coco_numbers, difference_intervals
from pose.coco_results import results_of
from pose.decoders import heatmaps_to_keypoints
from pose.matching import load_truth, match_results, oks_with_truth
from pose.metrics import oks_between, peak_cells
from pose.oks import SCORED_JOINT
from pose.people import spec_of

ROWS_AT_ONCE = 16
COMPARED_ROWS = 256  # whose outputs are held, 54 MB of FastPose's; keypoints are held of all
REPLICATES, SEED = 500, 0
Infer = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass
class Change:
    """From float32 to int8.

    cosine: mean over people, of their outputs. Of the joints that float32 scores above SCORED_JOINT, moved: the
    fraction whose highest cell is another one; drop_oks: 1 - the mean of OKS's terms, between the two (None where the
    outputs are no people's).
    oks: mean change of OKS with the annotations, and its standard error; ap: AP of float32, AP of int8, and the 95 %
    interval of their difference (None without annotations).
    """

    people: int
    cosine: float
    moved: Optional[float] = None
    drop_oks: Optional[float] = None
    oks: Optional[Tuple[float, float]] = None
    ap: Optional[Tuple[float, float, Tuple[float, float]]] = None

    @property
    def drop_ap(self) -> Optional[float]:
        """In points: hundredths of AP."""
        return None if self.ap is None else 100 * (self.ap[0] - self.ap[1])


@dataclasses.dataclass
class Outputs:
    """Of N people: the first rows' outputs, (N, K) highest cells, (N, K) scores of joints and (N, K, 2) keypoints in
    photo pixels; those are empty where the outputs are no people's."""

    rows: np.ndarray
    cells: np.ndarray
    scores: np.ndarray
    keypoints: np.ndarray


class Validation:
    """People that int8 is judged on. `annotations` are those of their photos; without a manifest of people only outputs
    are compared."""

    def __init__(self, bins: BinReader, annotations: Optional[Annotations], infer_float: Infer):
        self.bins, self.annotations = bins, annotations
        self.people: Optional[Manifest] = bins.manifest if _is_people(bins) else None
        self.float = self._outputs(infer_float)

    @staticmethod
    def require_people(bins: BinReader) -> None:
        """Raises UserError where joints cannot be told."""
        if not _is_people(bins):
            raise UserError(f"{bins.folder}: no manifest of people, which says where each crop lies in its photo. "
                            "Give bins that preprocess.py made")

    def judge(self, infer: Infer) -> Change:
        came, expected = self._outputs(infer), self.float
        cosine = mean_cosine(expected.rows, came.rows)
        if self.people is None:
            return Change(sum(self.bins.rows), cosine)
        counted = expected.scores > SCORED_JOINT
        moved = float((expected.cells != came.cells)[counted].mean()) if counted.any() else 0.0
        # A joint that float32 has not found lies anywhere: it is put where float32 has it, and does not count.
        keypoints = np.where(counted[..., None], came.keypoints, expected.keypoints)
        corners = self.people["crop_xyxy"].astype(np.float64)
        lost = 1 - oks_between(expected.keypoints, keypoints, (corners[:, 2:] - corners[:, :2]).prod(axis=1))
        drop = float(lost.sum() * counted.shape[1] / max(np.count_nonzero(counted), 1))
        change = Change(len(lost), cosine, moved, drop)
        if self.annotations is not None:
            self._score(change, came, self.people, self.annotations)
        return change

    def _score(self, change: Change, came: Outputs, people: Manifest, annotations: Annotations) -> None:
        truth = load_truth(annotations, people.settings["images"])
        annotations.require_images(people["image_id"].tolist(), "bins")
        image = np.array([truth.numbers[one] for one in people["image_id"].tolist()])
        known, similar = (oks_with_truth(one.keypoints, image, truth) for one in (self.float, came))
        own = known.argmax(axis=1)[:, None]  # the annotation that float32 found
        differences = np.take_along_axis(similar - known, own, axis=1)[:, 0]
        change.oks = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))
        a, b = (match_results(truth, results_of(people, one.keypoints, one.scores)) for one in (self.float, came))
        low, high = difference_intervals(a, b, REPLICATES, SEED, 1)["AP"]
        change.ap = coco_numbers(a)["AP"], coco_numbers(b)["AP"], (low, high)

    def _outputs(self, infer: Infer) -> Outputs:
        rows, cells, scores, keypoints, done = [], [], [], [], 0
        for numbers in self.bins.groups(ROWS_AT_ONCE):
            outputs = infer(self.bins.read(numbers))
            if done < COMPARED_ROWS:
                rows.append(outputs)
            if self.people is not None:
                cells.append(peak_cells(outputs)[0])
                corners = self.people["crop_xyxy"][done:done + len(outputs)]
                positions, heights = heatmaps_to_keypoints(outputs, None, corners, spec_of(self.people))
                keypoints.append(positions)
                scores.append(heights)
            done += len(outputs)
        return Outputs(*(np.concatenate(parts) if parts else np.empty(0) for parts in (rows, cells, scores, keypoints)))


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the rows of (N, ...) each."""
    return float(np.mean([_cosine(one, other) for one, other in zip(a, b)]))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    norms = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norms) if norms else float(not a.any() and not b.any())


def _is_people(bins: BinReader) -> bool:
    """Whether a manifest of people's crops lies beside the bins, whose dumps are heatmaps."""
    return bins.manifest is not None and "crop_xyxy" in bins.manifest.columns
