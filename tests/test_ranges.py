"""What calibration collects of a tensor, against numpy on all of its values at once."""
from __future__ import annotations

import numpy as np
import pytest

from contract.errors import UserError
from contract.ranges import BINS, COARSE, LEVELS, METHODS, Range, bounds, threshold


def collect(*images: np.ndarray) -> Range:
    collected = Range()
    for image in images:
        collected.add(image)
    return collected


@pytest.fixture()
def images() -> list:
    """Each larger than the one before, so that the histogram must grow; half of the values are 0, as after a ReLU."""
    rng = np.random.default_rng(0)
    return [np.maximum(rng.standard_normal((8, 20, 20)), 0).astype(np.float32) * 3 ** number for number in range(4)]


def test_no_value_is_lost_while_the_histogram_grows(images):
    collected, values = collect(*images), np.concatenate([image.ravel() for image in images])
    assert collected.zeros == (values == 0).sum()
    assert collected.counts.sum() == (values > 0).sum()
    edges = np.arange(BINS + 1) * collected.width
    expected, _ = np.histogram(values[values > 0], edges)
    assert np.abs(collected.counts - expected).sum() <= 2  # a value on an edge may fall to either side


def test_the_order_of_the_images_does_not_decide(images):
    """The widths of bins may differ; what is chosen differs by a bin. (`entropy` counts bins, and may jump.)"""
    one, other = collect(*images), collect(*images[::-1])
    for method in ("minmax", "average", "percentile"):
        bins = 2 * max(one.width, other.width)
        assert threshold(one, method) == pytest.approx(threshold(other, method), abs=bins)


def test_minmax_average_and_percentile_are_numpys(images):
    collected, values = collect(*images), np.concatenate([image.ravel() for image in images])
    assert threshold(collected, "minmax") == values.max()
    assert threshold(collected, "average") == pytest.approx(np.mean([image.max() for image in images]))
    assert threshold(collected, "percentile") == pytest.approx(np.percentile(values, 99.99, method="inverted_cdf"),
                                                                   abs=2 * collected.width)


def naive_divergence(counts: list, kept: int) -> float:
    """Kullback-Leibler divergence of int8 with this many bins, one bin after another."""
    expected = [float(count) for count in counts[:kept]]
    expected[-1] += sum(counts[kept:])
    coarse = [0.0] * kept
    for level in range(COARSE):
        start, end = level * kept // COARSE, (level + 1) * kept // COARSE
        used = [place for place in range(start, end) if counts[place]]
        for place in used:
            coarse[place] = sum(counts[start:end]) / len(used)
    divergence = 0.0
    for p, q in zip(expected, coarse):
        if p:
            p, q = p / sum(expected), max(q / sum(coarse), 1e-12)
            divergence += p * np.log(p / q)
    return divergence


def test_entropy_is_the_least_divergence_of_all_candidates():
    collected = Range()
    collected.width, collected.highest, bins = 1.0, 300.0, 300
    shape = np.exp(-np.arange(bins) / 25.0) * 1e5
    collected.counts[:bins] = np.random.default_rng(0).poisson(shape)
    collected.counts[bins - 1] = 3  # a few values far from the rest
    counts = collected.counts[:bins].tolist()
    best = min(range(COARSE, bins + 1), key=lambda kept: naive_divergence(counts, kept))
    assert COARSE <= best < bins
    assert threshold(collected, "entropy") == best


def test_mse_is_the_least_error_of_int8_itself():
    """Of int8 as it is computed, value by value, at each threshold that a histogram can tell."""
    values = np.random.default_rng(0).standard_t(5, size=100_000).astype(np.float32)
    collected = collect(values)

    def error(limit: float) -> float:
        rounded = np.clip(np.rint(values * LEVELS / limit), -LEVELS, LEVELS) * limit / LEVELS
        return float(((values - rounded) ** 2).mean())

    chosen = threshold(collected, "mse")
    tried = np.linspace(0.05, 1, 400) * collected.largest
    assert chosen < 0.9 * collected.largest and error(chosen) <= 1.03 * min(map(error, tried))


def test_bounds_end_where_values_and_the_threshold_do():
    rng = np.random.default_rng(0)
    assert bounds(collect(rng.uniform(0, 3, 10_000).astype(np.float32)), "minmax")[0] == 0
    low, high = bounds(collect(np.array([-0.25, 0.5, 8], np.float32), np.array([0, 1, 2], np.float32)), "average")
    assert (low, high) == (-0.25, 5)  # the mean of 8 and 2
    assert bounds(collect(np.array([-4, -1], np.float32)), "minmax") == (-4, 0)
    assert bounds(collect(np.zeros(5, np.float32)), "minmax") == (0, 1)  # which 0 is exact in


def test_outliers_are_told_from_wide_ranges():
    rng = np.random.default_rng(0)
    even = rng.uniform(-1, 1, 200_000).astype(np.float32)
    assert collect(even).outlier == pytest.approx(1, abs=0.01)
    heavy = even.copy()
    heavy[:3] = 9
    assert collect(heavy).outlier == pytest.approx(9, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_has_a_threshold_all_the_same(method):
    assert threshold(collect(np.zeros((2, 3), np.float32)), method) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(UserError, match="not finite"):
        collect(np.array([1, bad], np.float32))
