"""The ONNX graph: golden recipe B end to end, the form that converters need, and the check before it is written."""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from detection_cases import SPP_CFG, conv, head, narrow_spp_cfg, pool, random_weights, recipe_b, tiny_cfg

from contract.errors import UserError
from detection.darknet import read_cfg, weights_size, write_weights
from detection.decoding import Thresholds, anchor_rows, decode, find_people
from detection.letterbox import boxes_to_photograph, letterbox, network_input
from detection.spec import DetectorSpec
from pose.crops import read_photograph

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

PLAIN_OPERATORS = {"Conv", "LeakyRelu", "Add", "Concat", "Resize", "MaxPool", "Max", "Reshape", "Slice", "ReduceMax",
                   "Transpose"}


@pytest.fixture(scope="module")
def recipe(shared, tmp_path_factory):
    """The network of recipe B: its weights file, its input of photograph 785, what the original computed."""
    network, path = read_cfg(SPP_CFG), tmp_path_factory.mktemp("recipe_b") / "yolov3-spp.weights"
    write_weights(path, network, recipe_b(network))
    golden = np.load(shared / "golden" / "yolo.npz")
    image = read_photograph(shared / "data" / "coco_mini" / "val2017" / "000000000785.jpg")
    yield {"network": network, "weights": path, "facts": json.loads((shared / "golden" / "yolo.json").read_text()),
           "image": network_input(letterbox(image, (608, 608)))[None], "rows": golden["pred_rows_000000000785"],
           "indexes": golden["pred_row_index_000000000785"], "sample": golden["pred_stride97_000000000785"]}
    path.unlink()


@pytest.fixture(scope="module")
def recipe_torch_heads(recipe):
    torch = pytest.importorskip("torch")
    from networks.darknet import load

    with torch.inference_mode():
        heads = load(DetectorSpec(recipe["network"]), recipe["weights"]).heads(torch.from_numpy(recipe["image"]))
    return [raw.numpy() for raw in heads]


@pytest.fixture(scope="module")
def recipe_onnx_rows(recipe):
    from detection.darknet import read_weights
    from detection.onnx_graph import build_onnx

    model = build_onnx(recipe["network"], read_weights(recipe["weights"], recipe["network"]))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(["output"], {"image": recipe["image"]})[0][0]


def test_recipe_b_weights_file(recipe):
    content = bytearray(recipe["weights"].read_bytes())
    content[12:16] = np.int32(32013312).tobytes()  # photographs seen in training, which we write as 0
    assert hashlib.sha256(content).hexdigest() == recipe["facts"]["weights_sha256"]
    assert len(content) == recipe["facts"]["weights_bytes"] == weights_size(recipe["network"])


def relative_error(rows, expected):
    """Positions are hundreds of pixels, probabilities at most 1."""
    return (np.abs(rows - expected) / np.maximum(1, np.abs(expected))).max()


def test_recipe_b_predictions_of_torch(recipe, recipe_torch_heads):
    """All 85 attributes of a row."""
    rows = [raw.reshape(3, 85, -1).transpose(2, 0, 1).reshape(-1, 85) for raw in recipe_torch_heads]
    rows = decode(np.concatenate(rows), anchor_rows(recipe["network"]))
    assert relative_error(rows[recipe["indexes"]], recipe["rows"]) <= 1e-5
    assert relative_error(rows[::97], recipe["sample"]) <= 1e-5


def test_recipe_b_predictions_of_onnx(recipe, recipe_onnx_rows):
    """The seven that leave the device: the best of 79 other classes stands for them."""
    assert recipe_onnx_rows.shape == (22743, 7)
    rows = decode(recipe_onnx_rows, anchor_rows(recipe["network"]))
    for ours, golden in ((rows[recipe["indexes"]], recipe["rows"]), (rows[::97], recipe["sample"])):
        assert relative_error(ours, np.column_stack([golden[:, :6], golden[:, 6:].max(axis=1)])) <= 1e-5


# Boxes here are up to 1073 pixels wide, and float32 sums depend on their order: the original's own network differs from
# its golden boxes by 0.0001 px with the 2 threads that they were made with and by 0.001 px with 1, and is farther from
# float64 (raw values by 1.4e-5) than ONNX Runtime (0.7e-5).
PIXELS = 2e-3


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_recipe_b_from_the_photograph_to_the_people(recipe, recipe_onnx_rows, request, runtime):
    if runtime == "torch":
        torch = pytest.importorskip("torch")
        from networks.darknet import people_rows

        heads = zip(request.getfixturevalue("recipe_torch_heads"), recipe["network"].heads)
        raw = torch.cat([people_rows(torch.from_numpy(values), block) for values, block in heads], dim=1)[0].numpy()
    else:
        raw = recipe_onnx_rows
    people = find_people(raw, anchor_rows(recipe["network"]), Thresholds())
    boxes = boxes_to_photograph(people[:, :4], (608, 608), (640, 425))
    expected = recipe["facts"]["images"]["000000000785.jpg"]["detections"]
    assert len(people) == len(expected) == 283
    np.testing.assert_allclose(people[:, 4], [person["score"] for person in expected], atol=1e-5)
    np.testing.assert_allclose(np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]),
                               [person["bbox"] for person in expected], atol=PIXELS)


@pytest.fixture
def files(tmp_path):
    """Write a cfg and random weights for it."""

    def make(text):
        cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
        cfg.write_text(text)
        network = read_cfg(cfg)
        write_weights(weights, network, random_weights(network))
        return cfg, weights, network

    return make


def test_exported_files_are_static_plain_and_whole(files, tmp_path):
    pytest.importorskip("torch")
    from detection.export import export

    cfg, weights, network = files(narrow_spp_cfg())
    paths = export(cfg, weights, tmp_path / "models" / "net.onnx", batches=[1, 3])
    assert [path.name for path in paths] == ["net.onnx", "net_bs1.onnx", "net_bs3.onnx"]
    assert sorted(os.listdir(tmp_path / "models")) == sorted(path.name for path in paths)  # no side files
    images = np.random.default_rng(0).random((3, *network.input_shape), np.float32)
    outputs = []
    for path, batch in zip(paths, ("N", 1, 3)):
        model = onnx.load(path)
        assert model.ir_version == 6 and [entry.version for entry in model.opset_import] == [11]
        assert {node.op_type for node in model.graph.node} <= PLAIN_OPERATORS
        assert {node.domain for node in model.graph.node} == {""}
        session = onnxruntime.InferenceSession(path)
        given, got = session.get_inputs()[0], session.get_outputs()[0]
        assert (given.name, given.shape) == ("image", [batch, 3, 64, 96])
        assert (got.name, got.shape) == ("output", [batch, network.rows, 7])
        outputs.append(session.run(None, {"image": images[:batch] if batch != "N" else images})[0])
        assert path.stat().st_mode & 0o777 == 0o640
    assert np.array_equal(outputs[0], outputs[2])
    np.testing.assert_allclose(outputs[1], outputs[0][:1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("opset", [13, 17])
def test_later_opsets_give_the_same_numbers(files, tmp_path, opset):
    pytest.importorskip("torch")
    from detection.export import export

    cfg, weights, _ = files(tiny_cfg())
    model = onnx.load(export(cfg, weights, tmp_path / "net.onnx", opset=opset)[0])
    assert model.opset_import[0].version == opset and 6 <= model.ir_version <= 8


@pytest.mark.parametrize("size", [5, 9, 13])
def test_zeros_around_a_pool_survive_optimisers(files, size):
    """A pool over negative values alone, larger than half its input: Pad and MaxPool would be merged and lose them."""
    from detection.onnx_graph import build_onnx

    _, _, network = files("[net]\nwidth=96\nheight=64\n" + conv(18, 1, 8) + pool(size, 1) + head("0,1,2", 1))
    weights = random_weights(network)
    weights[0]["scale"][:], weights[0]["bias"][:] = 0.1, -30  # of a leaky convolution: about -3
    weights[1]["kernel"][:] = np.eye(18)[:, :, None, None]
    weights[1]["bias"][:] = 0
    model = build_onnx(network, weights)
    images = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    pooled = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})[0]
    pooled = pooled.reshape(8, 12, 18)
    reach = size // 2
    inside = pooled[reach:max(8 - reach, reach), reach:12 - reach]
    assert (inside < -1).all()
    assert np.count_nonzero(pooled) == inside.size
    onnxsim = pytest.importorskip("onnxsim")
    simplified, _ = onnxsim.simplify(model)
    again = onnxruntime.InferenceSession(simplified.SerializeToString()).run(None, {"image": images})[0]
    assert np.array_equal(again.reshape(8, 12, 18), pooled)


def test_a_file_that_differs_from_torch_is_not_written(files, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from detection import export, onnx_graph

    cfg, weights, _ = files(tiny_cfg())
    monkeypatch.setattr(onnx_graph, "LEAKY_SLOPE", 0.101)
    with pytest.raises(UserError, match="differs from torch by"):
        export.export(cfg, weights, tmp_path / "net.onnx")
    assert not list(tmp_path.glob("net.onnx*"))


def test_export_as_a_command(files, tmp_path):
    pytest.importorskip("torch")
    cfg, weights, _ = files(tiny_cfg(classes=1))

    def command(*arguments):
        return subprocess.run([sys.executable, "-m", "detection.export", *map(str, arguments)],
                              cwd=SPP_CFG.parent.parent, capture_output=True, text=True, timeout=120)

    done = command(cfg, weights, tmp_path / "net.onnx", "--batch", 2)
    assert done.returncode == 0 and "net_bs2.onnx" in done.stdout and "differs from torch by" in done.stdout
    weights.write_bytes(weights.read_bytes()[:-1])
    refused = command(cfg, weights, tmp_path / "other.onnx")
    assert refused.returncode == 2 and refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert not (tmp_path / "other.onnx").exists()
