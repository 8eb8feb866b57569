"""compare_layers.py as its user runs it: planted faults are named first, kept layers mend the output, bad input."""
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import one_error
from layers_cases import LAYERS, change_weight, node_of, onnx, rename_all, saturating, save, small_graph

from backends.rooms import open_backend

CONVOLUTIONS = [name for name in LAYERS if name != "add"]


@pytest.fixture()
def compare(prepared, small_cfg, main, tmp_path):
    """Run compare_layers.py on the 12 people of `prepared`; what it returns, with `json` as its file says."""

    def run(*arguments: object, bins: Path = prepared / "prep_data", cfg: Path = small_cfg):
        finished = main("compare_layers", *arguments, "--input", bins, "--cfg", cfg, "--output", tmp_path / "out")
        path = tmp_path / "out" / "layers.json"
        finished.json = json.loads(path.read_text()) if path.exists() and finished.returncode < 2 else None
        if finished.json:
            finished.of = {layer["node"]: SimpleNamespace(**layer) for layer in finished.json["layers"]}
        return finished

    return run


def crops_of(prepared: Path) -> np.ndarray:
    return np.stack([np.fromfile(path, np.float32).reshape(3, 64, 48)
                     for path in sorted((prepared / "prep_data").glob("*.bin"))])


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(a.astype(np.float64)))


@pytest.fixture()
def small(tmp_path) -> Path:
    return save(small_graph(), tmp_path / "a.onnx")


def test_the_same_file_differs_by_nothing(small, compare):
    finished = compare(small, small)
    assert finished.returncode == 0 and finished.json["first"] is None and finished.json["agree"]
    assert list(finished.of) == LAYERS
    assert all(layer.distance == layer.isolated == layer.max_abs == 0 and layer.cosine == 1
               for layer in finished.of.values())
    assert finished.json["keep"]["nodes_to_exclude"] == [] and not (small.parent / "out" / "keep_dtype.txt").exists()


@pytest.mark.parametrize("layer", CONVOLUTIONS)
@pytest.mark.parametrize("rename", [False, True], ids=["same names", "other names"])
def test_a_layer_with_other_weights_is_named_first(layer, rename, small, compare, tmp_path):
    faulty = small_graph()
    noise = np.random.default_rng(0)
    change_weight(faulty, f"{layer}.w", lambda values: values * (1 + 0.05 * noise.standard_normal(values.shape)))
    finished = compare(small, save(rename_all(faulty) if rename else faulty, tmp_path / "b.onnx"))
    assert finished.returncode == 1 and finished.json["first"] == layer
    assert [name for name, one in finished.of.items() if one.grows] == [layer]
    assert all(one.isolated < 1e-6 for name, one in finished.of.items() if name != layer)
    assert finished.json["keep"]["nodes_to_exclude"][0] == layer and finished.json["keep"]["verified"]
    assert f"error grows first at {layer} (Conv" in finished.stdout


@pytest.mark.parametrize("layer, after", [("left", "left2"), ("deep", "out")])
def test_a_layer_that_saturates_in_float16_is_named_first_and_keeping_it_mends_the_output(
        layer, after, compare, prepared, tmp_path):
    path = save(saturating(small_graph(), layer, after), tmp_path / "a.onnx")
    finished = compare(path, "--against", "fp16", "--limit", "argmax=0.9")
    assert finished.returncode == 1 and finished.json["first"] == layer
    assert finished.of[layer].largest > 65504 and finished.of[layer].isolated > 0.1
    keep = finished.json["keep"]
    assert layer in keep["nodes_to_exclude"] and keep["verified"]
    assert keep["output"]["RelativeEuclideanDistance"] < 5e-3 < finished.json["output"]["RelativeEuclideanDistance"]
    assert (tmp_path / "out" / "keep_dtype.txt").read_text().splitlines() == keep["nodes_to_exclude"]
    expected, low, kept = (open_backend("onnxruntime", file).infer(crops_of(prepared))
                           for file in (path, tmp_path / "out" / "lower.onnx", tmp_path / "out" / "kept.onnx"))
    assert distance(expected, kept) < 5e-3 < distance(expected, low)


def test_float16_that_fits_agrees_and_leaves_no_list_of_an_earlier_run(small, compare, tmp_path):
    compare(save(saturating(small_graph(), "deep", "out"), tmp_path / "bad.onnx"), "--against", "fp16")
    assert (tmp_path / "out" / "keep_dtype.txt").exists() and (tmp_path / "out" / "kept.onnx").exists()
    finished = compare(small, "--against", "fp16", "--limit", "argmax=0.9")
    assert finished.returncode == 0 and finished.json["first"] is None
    assert all(1e-5 < one.distance < 5e-3 for one in finished.of.values())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["layers.json", "layers.md", "lower.onnx"]


@pytest.mark.parametrize("layer", ["left2", "deep", "out"])
def test_a_layer_with_a_bad_scale_is_named_first(layer, small, compare, tmp_path):
    sound = compare(small, "--against", "int8", "--calibrate", 12, "--limit", "argmax=0.5")
    assert sound.returncode == 0 and sound.json["first"] is None
    model = onnx.load(tmp_path / "out" / "lower.onnx")
    makers = {node.output[0]: node for node in model.graph.node}
    pair = [makers[node_of(model, layer).input[0]]]
    pair.append(makers[pair[0].input[0]])
    assert [node.op_type for node in pair] == ["DequantizeLinear", "QuantizeLinear"]
    scale = pair[0].input[1]
    change_weight(model, scale, lambda value: value / 8)  # three quarters of the range are clipped
    for node in pair:
        node.input[1] = scale
    finished = compare(small, save(model, tmp_path / "b.onnx"), "--gate", "int8")
    assert finished.json["first"] == layer and finished.returncode == 1
    assert layer in finished.json["keep"]["nodes_to_exclude"]


def test_a_missing_layer_is_named(small, compare, tmp_path):
    """Without the Relu of `left`, what that layer gives is another thing, and no layer else is blamed."""
    faulty = small_graph()
    faulty.graph.node.remove(node_of(faulty, "left_relu"))
    node_of(faulty, "left2").input[0] = "l0"
    finished = compare(small, save(faulty, tmp_path / "b.onnx"))
    assert finished.json["first"] == "left" and finished.returncode == 1
    assert [name for name, one in finished.of.items() if one.grows] == ["left"]


def test_another_network_is_one_line(small, small_model, compare):
    assert "They are different networks" in one_error(compare(small, small_model))


def test_another_layout_is_one_line(small, compare, tmp_path):
    other = small_graph()
    node_of(other, "out").output[0] = "nchw"
    other.graph.node.append(onnx.helper.make_node("Transpose", ["nchw"], ["heatmaps"], perm=[0, 2, 3, 1]))
    del other.graph.output[0].type.tensor_type.shape.dim[:]
    assert "12 x 17" in one_error(compare(small, save(other, tmp_path / "b.onnx")))


def test_values_that_are_not_finite_are_counted_and_named(small, compare, tmp_path):
    faulty = small_graph()
    change_weight(faulty, "deep.b", lambda values: values + np.array([np.inf, 0, 0, 0, 0, np.nan]))
    finished = compare(small, save(faulty, tmp_path / "b.onnx"), "--people", 1)
    assert finished.json["first"] == "deep" and finished.returncode == 1
    assert finished.of["deep"].not_finite == 2 * 16 * 12 and finished.of["deep"].distance is None
    assert "384 values not finite" in finished.stdout and "Traceback" not in finished.stderr
    assert "which is the reference" in one_error(compare(tmp_path / "b.onnx", small))


def test_a_static_batch_pads_and_gives_the_same_numbers(small, compare, tmp_path):
    faulty = small_graph(batch=5)
    change_weight(faulty, "deep.w", lambda values: values * 1.03)
    other = save(faulty, tmp_path / "b.onnx")
    static = compare(save(small_graph(batch=5), tmp_path / "static.onnx"), other)
    dynamic = compare(small, other)
    for name, layer in dynamic.of.items():
        assert layer.distance == pytest.approx(static.of[name].distance, rel=1e-4, abs=1e-9)
    assert static.json["people"] == dynamic.json["people"] == 8 and static.json["output"]["worst_row"] < 8


def test_files_of_two_batches_or_opsets(small, compare, tmp_path):
    other = save(small_graph(batch=4), tmp_path / "b.onnx")
    assert "has batch 2" in one_error(compare(save(small_graph(batch=2), tmp_path / "c.onnx"), other))
    assert compare(small, save(small_graph(opset=11), tmp_path / "d.onnx")).returncode == 0


def test_the_budget_bounds_the_list_and_says_when_it_does_not_suffice(compare, tmp_path):
    model = saturating(saturating(small_graph(), "left", "left2"), "deep", "out")
    finished = compare(save(model, tmp_path / "a.onnx"), "--against", "fp16", "--keep_budget", 1)
    assert finished.returncode == 1 and len(finished.json["keep"]["nodes_to_exclude"]) <= 2  # a layer and its Relu
    assert not finished.json["keep"]["verified"] and "still does not pass" in finished.stdout
    unsought = compare(tmp_path / "a.onnx", "--against", "fp16", "--keep_budget", 0)
    assert {"left", "deep"} <= set(unsought.json["keep"]["nodes_to_exclude"])
    assert not unsought.json["keep"]["verified"] and "not verified by a run" in unsought.stdout


@pytest.mark.parametrize("arguments, message", [
    (["A", "none.onnx"], "none.onnx: no such ONNX file"),
    (["none.onnx", "--against", "fp16"], "none.onnx: no such ONNX file"),
    (["A", "A.txt"], "expected an .onnx file or a folder"),
    (["A", "TEXT"], "not an ONNX file"),
    (["A", "A", "--limit", "cosinus=1"], "no such limit"),
])
def test_bad_arguments_are_one_line(arguments, message, small, compare, tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    places = {"A": small, "TEXT": tmp_path / "text.onnx"}
    assert message in one_error(compare(*(places.get(word, word) for word in arguments)))


def test_either_b_or_against(small, compare):
    assert compare(small).returncode == 2
    assert compare(small, small, "--against", "fp16").returncode == 2


def test_the_process_returns_the_verdict(small, prepared, small_cfg, script, tmp_path):
    """As a shell sees it, by `-m` too, which is how a module is run."""
    faulty = small_graph()
    change_weight(faulty, "deep.w", lambda values: values * 2)
    other = save(faulty, tmp_path / "b.onnx")
    more = ("--input", prepared / "prep_data", "--cfg", small_cfg)
    assert script("compare_layers.py", small, small, *more).returncode == 0
    assert script("compare_layers.py", small, other, *more).returncode == 1
