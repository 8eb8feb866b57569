"""Metrics between two results of the same people: their tensors, heatmap peaks and keypoints.

Axes: N people, K joints, h w of a heatmap. `a` is the reference, `b` is compared with it. The measurement
of a person is a few numbers. So heatmaps can be dropped as soon as they are measured, and any group of people can be
summed later.
"""
from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np

from pose.oks import oks

SUMS = 5  # columns of `tensor_sums`
AA, BB, DD, LARGEST, MISMATCHED = range(SUMS)


def tensor_sums(a: np.ndarray, b: np.ndarray, atol: float, rtol: float) -> np.ndarray:
    """(N, K, h, w) float32 each -> (N, K, 5) float64: a.a, b.b, |a - b|^2, max |a - b|, elements that mismatch.

    An element mismatches when it is off by more than `atol` AND by more than `rtol` of |a| (Polygraphy's rule, which
    is not that of numpy.allclose).
    """
    a, b = a.reshape(*a.shape[:2], -1), b.reshape(*b.shape[:2], -1)
    sums = np.zeros((*a.shape[:2], SUMS))
    difference = a - b
    for column, (left, right) in enumerate(((a, a), (b, b), (difference, difference))):
        sums[..., column] = np.einsum("nke,nke->nk", left, right)
    np.abs(difference, out=difference)
    sums[..., LARGEST] = difference.max(axis=2)
    if sums[..., LARGEST].max() > atol:  # of results that agree, never
        tolerance = np.abs(a)
        np.maximum(np.multiply(tolerance, np.float32(rtol), out=tolerance), np.float32(atol), out=tolerance)
        mismatched = (difference > tolerance).reshape(-1, a.shape[2])
        sums[..., MISMATCHED] = np.reshape([np.count_nonzero(row) for row in mismatched], a.shape[:2])
    return sums


def tensor_metrics(sums: np.ndarray, elements: int) -> Dict[str, float]:
    """(..., 5) sums, each over `elements` values -> one set of metrics over all of them, by the names that Ascend's
    comparison tools print; `Mismatched` is the fraction of elements beyond both tolerances."""
    count = elements * sums[..., 0].size
    total = sums.reshape(-1, SUMS).sum(axis=0)
    return {"CosineSimilarity": float(cosines(total)), "MaxAbsoluteError": float(sums[..., LARGEST].max()),
            "RootMeanSquareError": float(np.sqrt(total[DD] / count)),
            "RelativeEuclideanDistance": float(relative_distances(total)),
            "Mismatched": float(total[MISMATCHED] / count)}


def cosines(sums: np.ndarray) -> np.ndarray:
    """(..., 5) sums -> (...) cosine similarities, by 2 a.b = a.a + b.b - |a - b|^2; two vectors of zeros are alike."""
    norms = np.sqrt(sums[..., AA] * sums[..., BB])
    product = (sums[..., AA] + sums[..., BB] - sums[..., DD]) / 2
    both_zero = (sums[..., AA] == 0) & (sums[..., BB] == 0)
    return np.where(both_zero, 1.0, np.minimum(product / np.where(norms > 0, norms, 1), 1))


def relative_distances(sums: np.ndarray) -> np.ndarray:
    """(..., 5) sums -> (...) |a - b| / |a|; infinite where only `a` is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., DD] == 0, 0.0, np.sqrt(sums[..., DD] / sums[..., AA]))


def peak_cells(heatmaps: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """(N, K, h, w) -> (N, K) index of the highest value in row-major order, (N, K) that value."""
    rows = heatmaps.reshape(*heatmaps.shape[:2], -1)
    cells = rows.argmax(axis=2)
    return cells, np.take_along_axis(rows, cells[..., None], axis=2)[..., 0]


def heatmap_metrics(cells_a: np.ndarray, cells_b: np.ndarray, peaks_a: np.ndarray,
                    peaks_b: np.ndarray) -> Dict[str, Any]:
    """(N, K) cells and peaks of both -> agreement of the cells, over all and per joint, and how peak heights differ."""
    same = cells_a == cells_b
    off = np.abs(peaks_a.astype(np.float64) - peaks_b)
    return {"argmax_agreement": float(same.mean()), "argmax_agreement_per_joint": same.mean(axis=0).tolist(),
            "peak_a_mean": float(peaks_a.mean(dtype=np.float64)), "peak_b_mean": float(peaks_b.mean(dtype=np.float64)),
            "peak_difference_mean": float(off.mean()), "peak_difference_max": float(off.max())}


def keypoint_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, K, 2) each -> (N, K) distances, float64, in their pixels."""
    return np.sqrt(((a.astype(np.float64) - b) ** 2).sum(axis=2))


def oks_between(a: np.ndarray, b: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(N, K, 2) each, (N,) areas -> (N,) OKS of each person in `a` with the same person in `b`."""
    return oks(a, areas, b, areas)


def spread(values: np.ndarray) -> Dict[str, float]:
    """Mean, median, 95th percentile and maximum of (...) values of any shape, at least one."""
    p50, p95 = np.percentile(values, (50, 95))
    return {"mean": float(values.mean()), "p50": float(p50), "p95": float(p95), "max": float(values.max())}
