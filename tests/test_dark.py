"""DARK: tops of Gaussians whose place is known, and the paper's formula joint by joint in float64."""
from __future__ import annotations

import numpy as np

from pose.dark import find_refined_peaks
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import find_peaks
from pose.spec import load_spec
from tests.heatmap_cases import gaussians

HEIGHT, WIDTH = 32, 24
EDGE = 5  # cells; nearer to the border what is smoothed lacks a part


def in_float64(heatmap: np.ndarray) -> np.ndarray:
    """(2,) x and y of one (h, w) heatmap, cell by cell; steps of a cell or more are not taken."""
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    if not (1 < x < WIDTH - 2 and 1 < y < HEIGHT - 2):
        return np.array([x, y], float)
    kernel = np.exp(-np.arange(-5, 6) ** 2 / 8.0)
    kernel /= kernel.sum()
    padded = np.pad(heatmap.astype(float), 7)

    def log(column: int, row: int) -> float:
        part = padded[row + 2:row + 13, column + 2:column + 13]
        return np.log(max(kernel @ part @ kernel, 1e-10))

    slope = np.array([log(x + 1, y) - log(x - 1, y), log(x, y + 1) - log(x, y - 1)]) / 2
    bend = np.array([[log(x + 2, y) - 2 * log(x, y) + log(x - 2, y), 0],
                     [0, log(x, y + 2) - 2 * log(x, y) + log(x, y - 2)]]) / 4
    bend[0, 1] = bend[1, 0] = (log(x + 1, y + 1) - log(x + 1, y - 1) - log(x - 1, y + 1) + log(x - 1, y - 1)) / 4
    step = -np.linalg.inv(bend) @ slope
    return np.array([x, y]) + (step if np.abs(step).max() < 1 else 0)


def test_the_top_of_a_gaussian_is_found_between_cells():
    places = np.random.default_rng(1).uniform((EDGE, EDGE), (WIDTH - EDGE, HEIGHT - EDGE), (8, 17, 2))
    maps = gaussians(places, HEIGHT, WIDTH)
    positions, scores = find_refined_peaks(maps)
    assert np.abs(positions - places).max() < 0.02 < 0.2 < np.abs(find_peaks(maps)[0] - places).max()
    np.testing.assert_array_equal(scores, maps.max(axis=(2, 3)))


def test_it_is_the_formula_of_the_paper():
    """Two tops in a heatmap, noise, and tops at the border, where a peak stays."""
    rng = np.random.default_rng(2)
    places = rng.uniform((-1, -1), (WIDTH, HEIGHT), (2, 4, 17, 2))
    maps = gaussians(places[0], HEIGHT, WIDTH) + 0.6 * gaussians(places[1], HEIGHT, WIDTH)
    maps += 0.02 * rng.standard_normal(maps.shape).astype(np.float32)
    expected = np.array([in_float64(heatmap) for heatmap in maps.reshape(-1, HEIGHT, WIDTH)]).reshape(4, 17, 2)
    np.testing.assert_allclose(find_refined_peaks(maps)[0], expected, atol=2e-3)
    assert (expected == np.round(expected)).all(axis=2).any()


def test_flat_and_empty_heatmaps_stay():
    maps = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    maps[0, 1] = 1
    maps[0, 2] = -1
    positions, scores = find_refined_peaks(maps)
    assert positions.tolist() == [[[0, 0]] * 3] and scores.tolist() == [[0, 1, -1]]
    assert find_refined_peaks(maps[:0])[0].shape == (0, 3, 2)


def test_a_config_asks_for_it(tmp_path):
    text = open("configs/demo_fastpose.yaml", encoding="utf-8").read()
    (tmp_path / "dark.yaml").write_text(f"DECODE: dark\n{text}")
    spec = load_spec(tmp_path / "dark.yaml")
    height, width = spec.heatmap_size
    places = np.random.default_rng(3).uniform((8, 8), (width - 8, height - 8), (1, 17, 2))
    crop = np.array([[0, 0, spec.input_size[1], spec.input_size[0]]], np.float32)
    keypoints, _ = heatmaps_to_keypoints(gaussians(places, height, width), None, crop, spec)
    np.testing.assert_allclose(keypoints, places * (spec.input_size[1] / width), atol=0.1)
