"""COCO's keypoint matching, of all photos at once, as arrays in which a photo can be weighted.

pycocotools answers for one set of photos. A bootstrap asks a thousand times, with each photo counted some
number of times; matching depends on one photo at a time, so it is done once here and only the counting repeats.
Axes: D results by descending score, I photos, G annotations at most on one, A areas (all, medium, large), T
thresholds of OKS.
"""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional

import numpy as np

from pose.annotations import Annotations
from pose.skeleton import COCO17

THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = np.array([[0, 1e10], [32 ** 2, 96 ** 2], [96 ** 2, 1e10]])  # all, medium, large; square pixels
MOST_RESULTS = 20  # of a photo; the lowest scores beyond do not count
PAIRS_AT_ONCE = 1 << 14  # results with annotations whose OKS is computed together


@dataclasses.dataclass
class Matches:
    """(D,) photo of each result; (A, T, D) whether it found an annotation and whether it counts at all;
    (A, I) annotations to be found."""

    image: np.ndarray
    hit: np.ndarray
    counts: np.ndarray
    wanted: np.ndarray


@dataclasses.dataclass
class Truth:
    """M annotations in the order of their photos: number of each one's photo, (M, K, 3) keypoints, (M, 4)
    bbox_xywh, (M,) areas, marks of a crowd; (A, M) those that are to be ignored. `numbers`: id -> number."""

    numbers: Dict[int, int]
    image: np.ndarray
    keypoints: np.ndarray
    bbox_xywh: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray

    @property
    def wanted(self) -> np.ndarray:
        """(A, images) int64: annotations of each photo that are not ignored."""
        return np.stack([np.bincount(self.image[~ignored], minlength=len(self.numbers)) for ignored in self.ignored])


def load_truth(annotations: Annotations, images: Optional[List[int]]) -> Truth:
    """COCO's annotations, of `images` or of all photos."""
    if images is not None:
        annotations.require_images(images, "manifest's images")
    ids = sorted(annotations.images if images is None else set(images))
    numbers = {image: number for number, image in enumerate(ids)}
    people = [person for person in annotations.people if person["image_id"] in numbers]
    people.sort(key=lambda person: numbers[person["image_id"]])  # stable: within a photo the file's order
    crowd = np.array([bool(person["iscrowd"]) for person in people], bool)
    unlabelled = np.array([person["num_keypoints"] == 0 for person in people], bool)
    areas = np.array([person["area"] for person in people], np.float64)
    return Truth(numbers, np.array([numbers[person["image_id"]] for person in people], np.int64),
                 np.array([person["keypoints"] for person in people], np.float64).reshape(-1, len(COCO17), 3),
                 np.array([person["bbox"] for person in people], np.float64).reshape(-1, 4), areas, crowd,
                 crowd | unlabelled | _outside(areas))


def _outside(areas: np.ndarray) -> np.ndarray:
    return (areas < AREAS[:, :1]) | (areas > AREAS[:, 1:])


def match_results(truth: Truth, results: List[Dict[str, Any]]) -> Matches:
    """Match results in COCO's format to annotations as pycocotools' COCOeval does for keypoints. Results on other
    photos than those of `truth` do not count."""
    results = [person for person in results if person["image_id"] in truth.numbers]
    image = np.array([truth.numbers[person["image_id"]] for person in results], np.int64)
    scores = np.array([person["score"] for person in results], np.float64)
    order = np.lexsort((-scores, image))  # by photo, then by descending score; stable
    rank = np.arange(len(order)) - np.searchsorted(image[order], image[order])
    order, rank = order[rank < MOST_RESULTS], rank[rank < MOST_RESULTS]
    image, scores = image[order], scores[order]
    joints = np.array([results[row]["keypoints"] for row in order], np.float64).reshape(-1, len(COCO17), 3)[..., :2]
    areas = np.array([results[row]["bbox"][2] * results[row]["bbox"][3] for row in order])
    hit, counts = _match_by_rank(truth, image, rank, oks_with_truth(joints, image, truth), _outside(areas))
    order = np.argsort(-scores, kind="stable")
    return Matches(image[order], hit[..., order], counts[..., order], truth.wanted)


def _match_by_rank(truth: Truth, image: np.ndarray, rank: np.ndarray, similarity: np.ndarray, outside: np.ndarray):
    """Greedy, best result of every photo first: it takes the annotation of the highest OKS that is still free and
    is to be found, else the best that is to be ignored, and then it does not count. -> (A, T, D) hits, counts."""
    slots = similarity.shape[1]
    ignored = np.ones((len(AREAS), len(truth.numbers), slots), bool)
    crowd = np.zeros(ignored.shape[1:], bool)
    slot = np.arange(len(truth.image)) - np.searchsorted(truth.image, truth.image)
    ignored[:, truth.image, slot], crowd[truth.image, slot] = truth.ignored, truth.crowd
    ignored = ignored.transpose(1, 0, 2)
    free = np.ones((len(truth.numbers), len(AREAS), len(THRESHOLDS), slots), bool)
    hit = np.zeros((len(AREAS), len(THRESHOLDS), len(image)), bool)
    counts = np.repeat(~outside[:, None], len(THRESHOLDS), axis=1)
    near = similarity.max(axis=1, initial=-1) >= THRESHOLDS[0]
    for place in range(MOST_RESULTS):
        rows = np.nonzero(near & (rank == place))[0]
        where = image[rows]
        oks = similarity[rows][:, None, None]  # (r, 1, 1, G)
        possible = (oks >= THRESHOLDS[:, None]) & (free[where] | crowd[where][:, None, None])  # (r, A, T, G)
        value = np.where(possible, oks + 2.0 * ~ignored[where][:, :, None], -1)
        best = slots - 1 - value[..., ::-1].argmax(axis=3) if len(rows) else np.empty((0, *free.shape[1:3]), int)
        top = np.take_along_axis(value, best[..., None], axis=3)[..., 0]  # of equals pycocotools takes the last
        row, area, threshold = np.nonzero(top >= 0)
        free[where[row], area, threshold, best[row, area, threshold]] = False
        hit[:, :, rows] = (top >= 2).transpose(1, 2, 0)
        counts[:, :, rows] = np.where(top >= 0, top >= 2, counts[:, :, rows].transpose(2, 0, 1)).transpose(1, 2, 0)
    return hit, counts


def oks_with_truth(keypoints: np.ndarray, image: np.ndarray, truth: Truth) -> np.ndarray:
    """(D, K, 2) keypoints on photos (D,) -> (D, G) OKS with the annotations there, in their order; -1 beyond."""
    first = np.searchsorted(truth.image, np.arange(len(truth.numbers) + 1))
    many = np.diff(first)[image]  # annotations for each result
    similarity = np.full((len(image), max(1, np.diff(first).max(initial=0))), -1.0)
    result = np.repeat(np.arange(len(image)), many)
    slot = np.arange(len(result)) - np.repeat(np.cumsum(many) - many, many)
    for start in range(0, len(result), PAIRS_AT_ONCE):
        rows, slots = result[start:start + PAIRS_AT_ONCE], slot[start:start + PAIRS_AT_ONCE]
        similarity[rows, slots] = _oks_of_pairs(keypoints[rows], truth, first[image[rows]] + slots)
    return similarity


def _oks_of_pairs(keypoints: np.ndarray, truth: Truth, at: np.ndarray) -> np.ndarray:
    """(p, K, 2) keypoints, (p,) annotations -> (p,) OKS as COCO scores it: over labelled joints; for a person with
    none, by how far the keypoints lie outside of the box made three times as large."""
    annotated, boxes = truth.keypoints[at], truth.bbox_xywh[at, None]  # (p, K, 3), (p, 1, 4)
    used = annotated[..., 2] > 0
    unlabelled = ~used.any(axis=1)
    offset = keypoints - annotated[..., :2]
    low, size, lone = boxes[unlabelled, :, :2], boxes[unlabelled, :, 2:], keypoints[unlabelled]
    offset[unlabelled] = np.maximum(0, low - size - lone) + np.maximum(0, lone - (low + 2 * size))
    used[unlabelled] = True
    exponent = (offset ** 2).sum(axis=2) / COCO17.variances / (truth.areas[at, None] + np.spacing(1)) / 2
    return (np.exp(-exponent) * used).sum(axis=1) / used.sum(axis=1)
