"""Every metric of compare.py against its definition in float64, and the limits that are set on them."""
from __future__ import annotations

import numpy as np
import pytest

from comparison.gates import GATES, LIMITS, choose_limits, first_difference, judge
from comparison.levels import features as feature_level
from comparison.levels import heatmaps as heatmap_level
from comparison.levels import keypoints as keypoint_level
from comparison.levels import score as score_level
from comparison.levels import tensors as tensor_level
from comparison.people import People, match_people, people_of_keypoints
from comparison.results import Options, Result
from contract.errors import UserError
from pose.metrics import (
    cosines,
    heatmap_metrics,
    keypoint_distances,
    oks_between,
    peak_cells,
    relative_distances,
    spread,
    tensor_metrics,
    tensor_sums,
)
from pose.skeleton import COCO17
from pose.spec import PoseSpec

PEOPLE, JOINTS, HEIGHT, WIDTH = 6, 17, 64, 48


@pytest.fixture()
def heatmaps():
    """Two sets with a difference of 1e-3 of their size, one person alike, one of zeros in both, one opposite."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((PEOPLE, JOINTS, HEIGHT, WIDTH)).astype(np.float32)
    b = (a + 1e-3 * rng.standard_normal(a.shape)).astype(np.float32)
    b[1], a[2], b[2], b[3] = a[1], 0, 0, -a[3]
    return a, b


def flat64(heatmaps) -> tuple:
    return tuple(values.astype(np.float64).reshape(PEOPLE, -1) for values in heatmaps)


def test_tensor_metrics_are_their_definitions_in_float64(heatmaps):
    a, b = flat64(heatmaps)
    metrics = tensor_metrics(tensor_sums(*heatmaps, 1e-3, 1e-3), HEIGHT * WIDTH)
    cosine = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert metrics["CosineSimilarity"] == pytest.approx(cosine, rel=1e-6)
    assert metrics["MaxAbsoluteError"] == np.abs(heatmaps[0] - heatmaps[1]).max()
    assert metrics["RootMeanSquareError"] == pytest.approx(np.sqrt(((a - b) ** 2).mean()), rel=1e-6)
    assert metrics["RelativeEuclideanDistance"] == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a), rel=1e-6)


def test_each_person_has_a_cosine_and_a_distance(heatmaps):
    a, b = flat64(heatmaps)
    sums = tensor_sums(*heatmaps, 1e-3, 1e-3).sum(axis=1)
    with np.errstate(invalid="ignore"):
        expected = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
        distance = np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)
    expected[2], distance[2] = 1, 0  # two vectors of zeros are alike
    np.testing.assert_allclose(cosines(sums), expected, rtol=1e-6)
    np.testing.assert_allclose(relative_distances(sums), distance, rtol=1e-6)
    assert cosines(sums)[3] == pytest.approx(-1, rel=1e-6)


def test_a_reference_of_zeros_is_infinitely_far_from_anything_else():
    a, b = np.zeros((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 2), np.float32)
    sums = tensor_sums(a, b, 0, 0)
    assert np.isinf(relative_distances(sums)).all() and (cosines(sums) == 0).all()


@pytest.mark.parametrize("atol, rtol", [(0, 0), (0.25, 0.25), (0.5, 0), (0, 0.5), (2, 2)])
def test_an_element_mismatches_when_it_is_beyond_both_tolerances(atol, rtol):
    rng = np.random.default_rng(1)  # sixteenths, so that no value lies near a limit by rounding
    a, b = (rng.integers(-32, 33, (PEOPLE, JOINTS, 8, 6)).astype(np.float32) / 16 for _ in range(2))
    off = np.abs(a.astype(np.float64) - b)
    both = ((off > atol) & (off > rtol * np.abs(a))).reshape(PEOPLE, JOINTS, -1)
    sums = tensor_sums(a, b, atol, rtol)
    np.testing.assert_array_equal(sums[..., 4], both.sum(axis=2))
    assert tensor_metrics(sums, 48)["Mismatched"] == pytest.approx(both.mean())


def test_heatmap_metrics_count_joints_whose_highest_cell_is_the_same(heatmaps):
    a, b = heatmaps
    cells_a, peaks_a = peak_cells(a)
    cells_b, peaks_b = peak_cells(b)
    flat_a, flat_b = a.reshape(PEOPLE, JOINTS, -1), b.reshape(PEOPLE, JOINTS, -1)
    same = np.array([[flat_a[n, k].argmax() == flat_b[n, k].argmax() for k in range(JOINTS)] for n in range(PEOPLE)])
    metrics = heatmap_metrics(cells_a, cells_b, peaks_a, peaks_b)
    assert metrics["argmax_agreement"] == same.mean() and not same[3].any() and same[1].all()
    np.testing.assert_allclose(metrics["argmax_agreement_per_joint"], same.mean(axis=0))
    off = np.abs(flat_a.max(axis=2).astype(np.float64) - flat_b.max(axis=2))
    assert metrics["peak_difference_max"] == off.max()
    assert metrics["peak_difference_mean"] == pytest.approx(off.mean())


def test_keypoint_metrics_are_their_definitions():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(0, 300, (2, PEOPLE, JOINTS, 2))
    areas = rng.uniform(500, 50000, PEOPLE)
    distances = keypoint_distances(a, b)
    for person in range(PEOPLE):
        for joint in range(JOINTS):
            dx, dy = a[person, joint] - b[person, joint]
            assert distances[person, joint] == pytest.approx((dx * dx + dy * dy) ** 0.5)
        similar = np.exp(-distances[person] ** 2 / (2 * areas[person] * (2 * np.array(COCO17.sigmas)) ** 2)).mean()
        assert oks_between(a, b, areas)[person] == pytest.approx(similar)
    ordered = np.sort(distances.ravel())
    measured = spread(distances)
    assert measured["max"] == ordered[-1] and measured["mean"] == pytest.approx(distances.mean())
    assert ordered[int(0.95 * len(ordered)) - 1] <= measured["p95"] <= ordered[int(0.95 * len(ordered)) + 1]


def people(keypoints: np.ndarray, keys: list, width: float = 96.0) -> People:
    count = len(keys)
    return People(keys, keypoints, np.full((count, JOINTS), 0.5), np.zeros((count, 2)),
                  np.full(count, width * width * 4 / 3), np.full(count, width))


def measure_keypoints(a: People, b: People, files: bool = True) -> keypoint_level.Keypoints:
    """Of two keypoints files, or of dumps, for an input 192 wide."""
    results = [Result("", [], None, keypoints=[] if files else None) for _ in range(2)]
    results[0].people, results[1].people = a, b
    return keypoint_level.measure(*results, Options(PoseSpec(), {}, "clean", 0, 0, 1))


def test_distances_are_given_in_pixels_of_the_input_and_of_the_photograph():
    """A crop 96 wide is enlarged twice to the 192 of the input."""
    a = np.zeros((2, JOINTS, 2))
    level = measure_keypoints(people(a, [(1, (0,)), (1, (1,))]), people(a + (3, 4), [(1, (0,)), (1, (1,))]))
    assert level.image_pixels["p95"] == pytest.approx(5) and level.input_pixels["p95"] == pytest.approx(10)
    assert level.unmatched == 0


def test_people_are_matched_by_photograph_and_box_whatever_their_order():
    keypoints = np.arange(4 * JOINTS * 2, dtype=float).reshape(4, JOINTS, 2)
    a = people(keypoints, [(1, (0.5,)), (1, (1.5,)), (2, (0.5,)), (2, (0.5,))])
    b = people(keypoints[[2, 3, 0]], [(2, (0.5,)), (2, (0.5,)), (1, (0.5,))])
    rows_a, rows_b = match_people(a, b)
    assert list(zip(rows_a, rows_b)) == [(0, 2), (2, 0), (3, 1)]
    level = measure_keypoints(a, b)
    assert (level.only_in_a, level.only_in_b, level.unmatched) == (1, 0, 0.25)
    assert measure_keypoints(a, b, files=False).unmatched == 0


def test_nobody_in_common_is_refused():
    a, b = people(np.zeros((1, JOINTS, 2)), [(1, (0,))]), people(np.zeros((1, JOINTS, 2)), [(2, (0,))])
    with pytest.raises(UserError, match="same detections"):
        measure_keypoints(a, b)


def test_crops_follow_from_the_records_of_both_kinds_of_boxes():
    """Detections come with the area of their crop; of annotated boxes the bbox is the crop's corners."""
    joints = [1.0, 2.0, 0.5] * JOINTS
    detected = {"image_id": 1, "bbox": [10, 20, 30, 40], "area": 48 * 64, "keypoints": joints, "score": 1}
    annotated = {"image_id": 1, "bbox": [10, 20, 58, 84], "keypoints": joints, "score": 1}
    found = people_of_keypoints([detected, annotated], (256, 192))
    np.testing.assert_allclose(found.areas, 48 * 64)
    np.testing.assert_allclose(found.widths, 48)
    np.testing.assert_allclose(found.centers, [[25, 40], [34, 52]])


def test_one_person_of_many_is_not_hidden_by_the_rest():
    """The cosine of all values together hardly moves; that of the worst person does."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((500, JOINTS, 8, 6)).astype(np.float32)
    b = a.copy()
    b[321] = rng.standard_normal(b[321].shape)
    tensors = tensor_level.measure_sums(tensor_sums(a, b, 0, 0), 48)
    assert tensors.CosineSimilarity > 0.99 and tensors.CosineSimilarity_worst < 0.3
    assert tensors.worst_row == 321


def levels_with(**changed: float) -> dict:
    """What every level measured, all of it perfect but for what is named."""
    values = {"cosine": 1, "worst": 1, "max_abs": 0, "mismatched": 0, "argmax": 1, "p95": 0, "oks": 1, "scores": 0,
              "unmatched": 0, "ap": 0, "person_scores": 0, "feature": 1, "feature_worst": 1, "distance": 0,
              "neighbours": 1, **changed}
    tensors = tensor_level.Tensors(values["cosine"], values["max_abs"], 0, 0, values["mismatched"],
                                   values["worst"], 0, [])
    return {"tensors": {"normal": tensors},
            "heatmaps": {"normal": heatmap_level.Heatmaps(values["argmax"], [], 0, 0, 0, 0)},
            "keypoints": keypoint_level.Keypoints(1, 0, 0, values["unmatched"], {}, {"p95": values["p95"]}, [],
                                                  {"p95": values["scores"]}, {"mean": values["oks"]}, [],
                                                  {"p95": values["person_scores"]}),
            "score": score_level.Score({}, {}, 0, changed.get("intervals"), {"AP": values["ap"]}),
            "features": feature_level.Features(2, 8, 0, 0, values["feature"], values["feature_worst"], "",
                                               values["distance"], values["neighbours"], {})}


BROKEN = {"cosine": ("tensors", {"cosine": 0.9}), "cosine_worst": ("tensors", {"worst": 0.5}),
          "max_abs": ("tensors", {"max_abs": 1}), "mismatched": ("tensors", {"mismatched": 0.5}),
          "argmax": ("heatmaps", {"argmax": 0.5}), "pixels_p95": ("keypoints", {"p95": 9}),
          "oks": ("keypoints", {"oks": 0.5}), "scores_p95": ("keypoints", {"scores": 0.5}),
          "person_scores_p95": ("keypoints", {"person_scores": 0.5}),
          "unmatched": ("keypoints", {"unmatched": 0.5}), "ap_change": ("score", {"ap": 0.1}),
          "feature_cosine": ("features", {"feature": 0.9}),
          "feature_cosine_worst": ("features", {"feature_worst": 0.5}),
          "distance_error": ("features", {"distance": 0.5}), "neighbours": ("features", {"neighbours": 0.5})}


@pytest.mark.parametrize("gate, name", [(gate, name) for gate, limits in GATES.items() for name in limits
                                        if name in LIMITS])
def test_each_limit_is_broken_by_its_own_value_and_can_be_moved(gate, name):
    level, values = BROKEN[name]
    limits = choose_limits(gate, [], None, None)
    assert first_difference(judge(levels_with(), limits)) is None
    verdicts = judge(levels_with(**values), limits)
    assert [(verdict.limit, verdict.level) for verdict in verdicts if not verdict.kept] == [(name, level)]
    assert first_difference(verdicts) == level
    loose = choose_limits(gate, [f"{name}={'-1' if LIMITS[name].sense == '>=' else '1e9'}"], None, None)
    assert first_difference(judge(levels_with(**values), loose)) is None


def test_a_change_of_ap_counts_only_beyond_chance():
    limits = choose_limits("fp16", [], None, None)
    by_chance, real = ({"AP": [-0.03, 0.01]}, {"AP": [-0.03, -0.01]})
    assert first_difference(judge(levels_with(ap=-0.02, intervals=by_chance), limits)) is None
    assert first_difference(judge(levels_with(ap=-0.02, intervals=real), limits)) == "score"
    assert first_difference(judge(levels_with(ap=-0.001, intervals={"AP": [-0.002, -0.0005]}), limits)) is None


def test_the_gates_grow_looser_and_tolerances_can_be_given():
    for name, limit in LIMITS.items():
        bounds = [GATES[gate][name] for gate in ("fp32", "fp16", "int8") if name in GATES[gate]]
        assert bounds == sorted(bounds, reverse=limit.sense == ">="), name
    assert choose_limits("int8", [], 0.5, None)["atol"] == 0.5
    for text in ("cosine", "cosine=high", "cosinus=0.5"):
        with pytest.raises(UserError, match="--limit"):
            choose_limits("fp16", [text], None, None)
