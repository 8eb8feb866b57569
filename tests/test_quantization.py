"""int8 as pairs: where they go, what they hold, and that ONNX Runtime computes between them in int8."""
from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from layers_cases import make_crops, onnx, small_graph

from contract.errors import UserError
from contract.ranges import bounds
from quantization.calibrate import calibrate
from quantization.decision import Decision, load_decision, save_decision
from quantization.graph import Graph, prepare
from quantization.qdq import FORMS, to_qdq
from quantization.quantizing import tell_unusual
from quantization.running import open_session, run
from quantization.trials import Trials


def deep_graph(groups: int = 1) -> onnx.ModelProto:
    """(N, 3, 64, 48) -> (N, 17, 16, 12): a convolution, a deconvolution, a convolution, each with batch norm."""
    rng = np.random.default_rng(1)
    helper = onnx.helper
    shapes = {"down": (8, 3, 3, 3), "up": (8, 8 // groups, 4, 4), "out": (17, 8, 3, 3)}
    weights, nodes, source = [], [], "image"
    for name, shape in shapes.items():
        channels = 8 if name == "up" else shape[0]
        arrays = {"w": rng.standard_normal(shape) / 6, "scale": rng.uniform(0.5, 2, channels),
                  "shift": rng.standard_normal(channels) / 5, "mean": rng.standard_normal(channels) / 5,
                  "var": rng.uniform(0.5, 2, channels)}
        weights += [onnx.numpy_helper.from_array(array.astype(np.float32), f"{name}.{part}")
                    for part, array in arrays.items()]
        settings = {"kernel_shape": shape[2:], "strides": [2, 2], "pads": [1] * 4} | ({"group": groups} if name == "up"
                                                                                    else {})
        if name == "down":
            settings["strides"] = [4, 4]
        nodes += [helper.make_node("ConvTranspose" if name == "up" else "Conv", [source, f"{name}.w"], [f"{name}0"],
                                   **settings),
                  helper.make_node("BatchNormalization", [f"{name}0", *(f"{name}.{part}" for part in
                                                                       ("scale", "shift", "mean", "var"))],
                                   ["heatmaps" if name == "out" else f"{name}1"], epsilon=1e-3)]
        source = f"{name}1"
        if name != "out":
            nodes.append(helper.make_node("Relu", [source], [f"{name}2"]))
            source = f"{name}2"
    image, output = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])
                     for name, shape in (("image", (3, 64, 48)), ("heatmaps", (17, 16, 12))))
    graph = helper.make_graph(nodes, "deep", [image], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_crops()


def infer(model: onnx.ModelProto, crops: np.ndarray) -> np.ndarray:
    return run(open_session(model.SerializeToString(), "test"), ["heatmaps"], crops, "test")[0]


def decide(model: onnx.ModelProto, crops: np.ndarray, **changes: object) -> Decision:
    ranges = calibrate(model, [crops], "test")
    return Decision(**{"ranges": {name: bounds(one, "minmax") for name, one in ranges.items()}, "kept": {},
                       "method": "minmax", **changes})


def optimised(model: onnx.ModelProto, folder: Path) -> Counter:
    """The operators that ONNX Runtime runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 4, str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_preparation_folds_batch_norm_and_changes_no_number(groups, crops):
    model = deep_graph(groups)
    prepared = prepare(model, "test")
    assert Counter(node.op_type for node in prepared.graph.node) == {"Conv": 2, "ConvTranspose": 1, "Relu": 2}
    assert all(node.name for node in prepared.graph.node)
    np.testing.assert_allclose(infer(prepared, crops), infer(model, crops), rtol=0, atol=1e-5)


def test_onnxruntime_computes_in_int8_all_that_it_can(crops, tmp_path):
    prepared = prepare(small_graph(), "test")
    quantized = to_qdq(prepared, decide(prepared, crops))
    onnx.checker.check_model(quantized, full_check=True)
    kinds = optimised(quantized, tmp_path)
    assert kinds["QLinearConv"] == 5 and kinds["QLinearAdd"] == 1
    assert kinds["Conv"] + kinds["FusedConv"] == 1  # the heatmaps', which would lose their levels and win no time
    assert not {"Add", "Relu"} & kinds.keys()  # Relu is a bound of int8
    assert kinds["QuantizeLinear"] == 1  # of what goes in
    assert cosine(infer(quantized, crops), infer(prepared, crops)) > 0.99


def test_what_no_int8_reads_is_not_rounded(crops):
    prepared = prepare(deep_graph(1), "test")
    quantized = to_qdq(prepared, decide(prepared, crops))
    makers = Graph(quantized).makers
    deconvolution, = (node for node in quantized.graph.node if node.op_type == "ConvTranspose")
    assert [makers[name].op_type for name in (deconvolution.input[0], "heatmaps")] == ["Relu", "Conv"]
    readers = {makers[node.input[0]].op_type for node in quantized.graph.node if node.op_type == "Conv"}
    assert readers == {"DequantizeLinear"}


def test_the_pairs_compute_what_numpy_does(crops):
    """A network of one convolution and its Relu, in float64: values and weights rounded, the sum rounded and cut."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(2)
    weights = rng.standard_normal((17, 3, 4, 4)).astype(np.float32)
    weights[3] = 0  # a dead channel
    bias = rng.standard_normal(17).astype(np.float32)
    image, output = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])
                     for name, shape in (("image", (3, 64, 48)), ("heatmaps", (17, 16, 12))))
    nodes = [helper.make_node("Conv", ["image", "w", "b"], ["sum"], name="one", strides=[4, 4], kernel_shape=[4, 4]),
             helper.make_node("Relu", ["sum"], ["heatmaps"], name="relu")]
    model = helper.make_model(helper.make_graph(nodes, "one", [image], [output], [
        numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")]),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    prepared = prepare(model, "test")
    decision = decide(prepared, crops)
    came = infer(to_qdq(prepared, decision), crops)

    low, high = decision.ranges["image"]
    step, zero = (high - low) / 255, round(-low * 255 / (high - low))
    rounded = (np.clip(np.rint(crops.astype(np.float64) / step) + zero, 0, 255) - zero) * step
    scales = np.abs(weights).max(axis=(1, 2, 3)) / 127
    scales[3] = max(scales[3], abs(bias[3]) / 2**30 / step)
    whole = np.rint(weights / scales[:, None, None, None]) * scales[:, None, None, None]
    patches = rounded.reshape(-1, 3, 16, 4, 12, 4)
    sums = np.einsum("ncyixj,kcij->nkyx", patches, whole) + bias[:, None, None]
    np.testing.assert_allclose(came, np.maximum(sums, 0), rtol=0, atol=1e-5 * np.abs(sums).max())
    assert came[:, 3].max() == pytest.approx(max(bias[3], 0), abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_kept_layer_is_computed_in_float(form, crops):
    prepared = prepare(small_graph(), "test")
    quantized = to_qdq(prepared, decide(prepared, crops, kept={"left": "a test"}), form)
    graph = Graph(quantized)
    kept = next(node for node in quantized.graph.node if node.name == "left")
    assert kept.input[1] == "left.w" and graph.weights["left.w"].data_type == onnx.TensorProto.FLOAT
    others = [node for node in quantized.graph.node if node.op_type == "Conv" and node.name != "left"]
    assert all(graph.makers[node.input[1]].op_type == "DequantizeLinear" for node in others)
    assert cosine(infer(quantized, crops), infer(prepared, crops)) > 0.98


def test_everything_kept_is_the_float_network(crops):
    prepared = prepare(small_graph(), "test")
    everything = {node.name: "a test" for node in prepared.graph.node}
    for form in FORMS:
        np.testing.assert_array_equal(infer(to_qdq(prepared, decide(prepared, crops, kept=everything), form), crops),
                                      infer(prepared, crops))


def test_pairs_for_tensorrt_are_symmetric_and_lie_on_what_is_read(crops):
    prepared = prepare(small_graph(), "test")
    quantized = to_qdq(prepared, decide(prepared, crops), "tensorrt")
    graph = Graph(quantized)
    pairs = [node for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
    for node in pairs:
        assert graph.values(node.input[2]).dtype == np.int8 and not graph.values(node.input[2]).any()
    assert {node.input[0] for node in pairs} == {"image", "s", "l", "l2", "r", "a", "d",
                                                 *(f"{name}.w" for name in ("stem", "left", "left2", "right", "deep",
                                                                            "out"))}
    assert graph.values(next(node for node in pairs if node.input[0] == "out.w").input[1]).shape == (17,)


def test_a_decision_is_read_as_it_was_written(crops, tmp_path):
    prepared = prepare(small_graph(), "test")
    decision = decide(prepared, crops, kept={"out": "the last"}, sha256={"model": "1", "data": "2"})
    save_decision(tmp_path / "a.json", decision, {"people": 6})
    assert load_decision(tmp_path / "a.json") == decision
    for content, what in (('{"format": 2}', "format 2"), ("{}", "not a record"), ("[]", "expected a record")):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(UserError, match=what):
            load_decision(tmp_path / "b.json")
    with pytest.raises(UserError, match="no such record"):
        load_decision(tmp_path / "c.json")


def test_an_int8_model_is_refused_by_what_it_holds(crops):
    prepared = prepare(small_graph(), "test")
    with pytest.raises(UserError, match="is int8 already .DequantizeLinear, QuantizeLinear."):
        prepare(to_qdq(prepared, decide(prepared, crops)), "test")


def test_a_tensor_that_is_always_the_same_changes_nothing(crops):
    """`left` gives its bias alone, in every cell of every crop; of one channel it is 0."""
    prepared = prepare(small_graph(), "test")
    graph = Graph(prepared)
    bias = np.abs(graph.values("left.b"))
    bias[0] = 0
    for name, values in (("left.w", 0 * graph.values("left.w")), ("left.b", bias)):
        graph.replace(name, values)
    for form in FORMS:
        assert cosine(infer(to_qdq(prepared, decide(prepared, crops), form), crops), infer(prepared, crops)) > 0.99


def test_layers_without_an_int8_of_the_form_are_named(crops, capsys):
    prepared = prepare(deep_graph(), "test")
    for form, told in (("cpu", True), ("ascend", True), ("tensorrt", False)):
        tell_unusual(Trials(prepared, form, calibrate(prepared, [crops], "test"), crops, "test"))
        assert ("1 ConvTranspose stay float (" in capsys.readouterr().err) == told


def test_a_tensor_that_is_not_finite_is_named(crops):
    prepared = prepare(small_graph(), "test")
    graph = Graph(prepared)
    graph.replace("left.w", graph.values("left.w") * np.float32("nan"))
    with pytest.raises(UserError, match="test: l holds values that are not finite"):
        calibrate(prepared, [crops], "test")
