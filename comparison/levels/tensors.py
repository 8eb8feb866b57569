"""All values of the dumps."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional

import numpy as np

from comparison.limits import LEAST, MOST, Limit, number
from comparison.page.figures import Figures, bars, histogram, html_table
from comparison.results import Options, Result
from contract.tables import format_table
from pose.metrics import cosines, relative_distances, tensor_metrics

FOLDERS = ("normal", "mirrored")  # bins that the dumps are of
COLUMNS = {"CosineSimilarity": "cosine", "CosineSimilarity_worst": "worst person", "MaxAbsoluteError": "max abs",
           "RootMeanSquareError": "RMSE", "RelativeEuclideanDistance": "relative distance", "Mismatched": "mismatched"}


@dataclasses.dataclass
class Tensors:
    """Of one folder, by the names of Ascend's comparison tools: over all values, the cosine of the worst person and
    whose it is, and each joint's metrics by themselves."""

    CosineSimilarity: float
    MaxAbsoluteError: float
    RootMeanSquareError: float
    RelativeEuclideanDistance: float
    Mismatched: float
    CosineSimilarity_worst: float
    worst_row: int
    per_joint: List[Dict[str, float]]


LIMITS = {
    "cosine": Limit(LEAST, "cosine similarity of all values together",
                    lambda folders: min(folder.CosineSimilarity for folder in folders.values()),
                    {"fp32": 0.999999, "fp16": 0.9999, "int8": 0.99}),
    "cosine_worst": Limit(LEAST, "cosine similarity of the worst person",
                          lambda folders: min(folder.CosineSimilarity_worst for folder in folders.values()),
                          {"fp32": 0.99999, "fp16": 0.995, "int8": 0.9}),
    "max_abs": Limit(MOST, "largest absolute difference",
                     lambda folders: max(folder.MaxAbsoluteError for folder in folders.values()), {"fp32": 1e-3}),
    "mismatched": Limit(MOST, "fraction of elements beyond both --atol and --rtol",
                        lambda folders: max(folder.Mismatched for folder in folders.values()),
                        {"fp32": 0, "fp16": 1e-3, "int8": 0.01}),
}


def measure(a: Result, b: Result, options: Options) -> Optional[Dict[str, Tensors]]:
    if not a.holds_heatmaps or not b.holds_heatmaps:
        return None
    elements = int(np.prod(options.spec.heatmap_size))
    return {name: measure_sums(sums, elements) for name, sums in zip(FOLDERS, b.decoded.sums)}


def measure_sums(sums: np.ndarray, elements: int) -> Tensors:
    """(N, K, 5) sums of pose.metrics, each over `elements` values."""
    of_people = cosines(sums.sum(axis=1))
    return Tensors(**tensor_metrics(sums, elements), CosineSimilarity_worst=float(of_people.min()),
                   worst_row=int(of_people.argmin()),
                   per_joint=[tensor_metrics(sums[:, joint], elements) for joint in range(sums.shape[1])])


def load(values: Dict[str, Any]) -> Dict[str, Tensors]:
    return {name: Tensors(**folder) for name, folder in values.items()}


def cells(measured: Dict[str, Tensors]) -> List[List[str]]:
    return [[name, *(number(getattr(folder, key)) for key in COLUMNS)] for name, folder in measured.items()]


def table(measured: Dict[str, Tensors]) -> str:
    return format_table(["tensors", *COLUMNS.values()], cells(measured))


def section(measured: Dict[str, Tensors], a: Result, b: Result, options: Options) -> Figures:
    distances = [joint["RelativeEuclideanDistance"] for joint in measured["normal"].per_joint]
    people = relative_distances(b.decoded.sums[0].sum(axis=1))
    return {"Tensors": {"": html_table(["dumps of bins", *COLUMNS.values()], cells(measured))},
            "Joints": {"Relative distance of heatmaps": bars(
                options.spec.skeleton.joints, distances, max(distances), "{:.2g}", "relative distance of each joint")},
            "People": {"Relative distance of each person's heatmaps": histogram(people, "distances")}}
