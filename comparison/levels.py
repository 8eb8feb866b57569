"""From what was measured of each person to the numbers of a level: tensors, heatmaps, keypoints, score."""
from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np

from comparison.bootstrap import coco_numbers, difference_intervals
from comparison.gates import HEATMAPS, TENSORS
from comparison.matching import Matches
from comparison.measure import Decoded
from comparison.sides import People, match_people
from contract.errors import UserError
from pose.metrics import cosines, heatmap_metrics, keypoint_distances, oks_between, spread, tensor_metrics

FOLDERS = ("normal", "mirrored")
WORST = 12  # people that are named


def dump_levels(a: Decoded, b: Decoded, elements: int) -> Dict[str, Any]:
    """The tensors and heatmaps of two sides; `elements` values to a heatmap."""
    tensors, heatmaps = {}, {}
    for name, sums, *cells_and_peaks in zip(FOLDERS, b.sums, a.cells, b.cells, a.peaks, b.peaks):
        of_people = cosines(sums.sum(axis=1))
        tensors[name] = {**tensor_metrics(sums, elements), "CosineSimilarity_worst": float(of_people.min()),
                         "worst_row": int(of_people.argmin()),
                         "per_joint": [tensor_metrics(sums[:, joint], elements) for joint in range(sums.shape[1])]}
        heatmaps[name] = heatmap_metrics(*cells_and_peaks)
    return {TENSORS: tensors, HEATMAPS: heatmaps}


def keypoint_level(a: People, b: People, input_width: int, whole: bool) -> Dict[str, Any]:
    """Keypoints of the people that both have. `whole`: both are complete keypoints files, so that a person whom only
    one of them has is a difference; dumps hold everybody, also those whom the NMS will drop."""
    rows_a, rows_b = match_people(a, b)
    alone = (len(a.keys) - len(rows_a), len(b.keys) - len(rows_b))
    counted = sum(alone) if whole else 0
    level: Dict[str, Any] = {"people": len(rows_a), "only_in_a": alone[0], "only_in_b": alone[1],
                             "unmatched": counted / max(1, counted + len(rows_a))}
    if not len(rows_a):
        raise UserError(f"none of {len(a.keys)} and {len(b.keys)} people is in both: they are told by photograph and "
                        "bbox. Were both made from the same detections?")
    distances = keypoint_distances(a.keypoints[rows_a], b.keypoints[rows_b])  # (n, K)
    inputs = distances * (input_width / np.maximum(a.widths[rows_a], 1e-6))[:, None]  # a crop of no size: no distance
    similar = oks_between(a.keypoints[rows_a], b.keypoints[rows_b], a.areas[rows_a])
    scores = a.scores[rows_a].astype(np.float64)
    height = max(np.abs(scores).mean(), 1e-30)
    worst = np.argsort(similar, kind="stable")[:WORST]
    level.update(
        image_pixels=spread(distances), input_pixels=spread(inputs),
        input_pixels_p95_per_joint=np.percentile(inputs, 95, axis=0).tolist(),
        scores=spread(np.abs(scores - b.scores[rows_b]) / height),
        oks={**spread(similar), "p5": float(np.percentile(similar, 5)), "min": float(similar.min())},
        worst=[{"row_a": int(rows_a[at]), "row_b": int(rows_b[at]), "image_id": int(a.keys[rows_a[at]][0]),
                "oks": float(similar[at]), "input_pixels_max": float(inputs[at].max())} for at in worst])
    return level


def score_level(a: Matches, b: Matches, replicates: int, seed: int, workers: int) -> Dict[str, Any]:
    """The ten COCO numbers of both, their differences b - a, and the bootstrap intervals of those, or None."""
    numbers_a, numbers_b = coco_numbers(a), coco_numbers(b)
    intervals: Optional[Dict[str, List[float]]] = None
    if replicates:
        intervals = difference_intervals(a, b, replicates, seed, workers)
    return {"a": numbers_a, "b": numbers_b, "replicates": replicates, "intervals": intervals,
            "differences": {name: numbers_b[name] - value for name, value in numbers_a.items()}}
