"""What compare_layers.py is made of, each against its definition in float64 or against other people's tools."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from layers_cases import (
    TENSORS,
    half,
    make_crops,
    onnx,
    options,
    quantize,
    save,
    small_graph,
    small_oracle,
    taking_bytes,
)

from comparison.gates import choose_limits
from contract.errors import UserError
from layers.alignment import align
from layers.comparison import compare_setting, hold_against
from layers.graphs import find_layers, inputs_of
from layers.layers_to_keep import Trials, fewest, keep_lists
from layers.low_precision import emulate_float16, quantize_int8
from layers.measure import LayerError, Sums, find_growth
from layers.net import Net


def identical_pairs(model: onnx.ModelProto) -> dict:
    return {name: name for name in [*inputs_of(model), *(layer.tensor for layer in find_layers(model))]}


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_crops()


# Metrics

def test_a_layer_s_numbers_are_their_definitions_in_float64():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 5, 8, 6)).astype(np.float32)
    b = (a + 1e-2 * rng.standard_normal(a.shape)).astype(np.float32)
    sums = Sums()
    for rows in (slice(0, 4), slice(4, 6)):
        sums.add(a[rows], b[rows], "layer")
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    assert sums.distance == pytest.approx(np.linalg.norm(wide_a - wide_b) / np.linalg.norm(wide_a), rel=1e-6)
    assert sums.cosine == pytest.approx((wide_a * wide_b).sum() / np.linalg.norm(wide_a) / np.linalg.norm(wide_b),
                                        rel=1e-7)
    assert sums.max_abs == np.abs(a - b).max() and sums.largest == np.abs(a).max() and sums.shape == (5, 8, 6)


def test_float16_values_are_compared_as_they_are():
    sums = Sums()
    sums.add(np.array([[1.0, 2.0]], np.float32), np.array([[1.0, 2.5]], np.float16), "layer")
    assert sums.distance == pytest.approx(0.5 / 5**0.5)


@pytest.mark.parametrize("a, b, distance, cosine", [
    ([0, 0], [0, 0], 0, 1), ([0, 0], [1, 0], np.inf, 0), ([1, 0], [0, 0], 1, 0), ([1, 0], [-1, 0], 2, -1),
    ([1, 0], [np.nan, 0], np.inf, 0), ([1, 1], [np.inf, 1], np.inf, 2**-0.5)])
def test_zeros_and_what_is_not_finite(a, b, distance, cosine):
    sums = Sums()
    sums.add(np.array([a], np.float32), np.array([b], np.float32), "layer")
    assert sums.distance == pytest.approx(distance) and sums.cosine == pytest.approx(cosine)


def test_the_error_grows_where_a_layer_adds_it_and_not_where_it_passes():
    layers = find_layers(small_graph())
    errors = [LayerError(layer, (), 1, distance, 0, 0, 0, None)
              for layer, distance in zip(layers, [1e-4, 4e-4, 0.3, 2e-4, 0.28, 0.9, 1.2]) if layer.tensor != "r"]
    find_growth(errors, layers, 5e-3, 5.0)
    assert [error.layer.name for error in errors if error.grows] == ["left2"]
    # `right` was not compared: `add` reads left2 and, through it, stem.
    assert {error.layer.name: error.input for error in errors}["add"] == 0.3
    for error in errors:
        error.isolated = 0.02 if error.layer.name in ("add", "out") else 1e-4
    find_growth(errors, layers, 5e-3, 5.0)
    assert [error.layer.name for error in errors if error.grows] == ["add", "out"]


# Float16

def test_emulated_float16_is_numpy_s_rounding_of_every_result(crops):
    model = small_graph()
    low = emulate_float16(model, list(identical_pairs(model)))
    came = Net(low, TENSORS, "low").run(crops)
    expected = small_oracle(crops, model, half)
    for name in TENSORS:
        np.testing.assert_array_equal(came[name].astype(np.float16), came[name])
        # float32 sums may fall on the other side of a tie, which is one unit of float16, and what follows may differ
        assert (came[name] == expected[name]).mean() > 0.95
        np.testing.assert_allclose(came[name], expected[name], rtol=4e-3, atol=4e-3)


def test_float16_saturates_and_keeps_denormal_numbers(crops):
    model = small_graph()
    low = emulate_float16(model, list(identical_pairs(model)))
    came = Net(low, ["s"], "low").run(crops * np.float32(1e5))["s"]
    assert came.max() == 65504
    tiny = Net(low, ["image/read"], "low").run(crops * np.float32(1e-7))["image/read"]
    np.testing.assert_array_equal(tiny, half(crops * np.float32(1e-7)))
    assert 0 < np.abs(tiny[tiny != 0]).min() < 6.2e-5


def test_a_layer_alone_reads_what_the_reference_gives(crops):
    """Its isolated error is that of one rounding of inputs, weights and result."""
    model = small_graph()
    pairs = identical_pairs(model)
    compared = hold_against(model, emulate_float16(model, list(pairs)), pairs, ("a", "b"), crops, options())
    sound = small_oracle(crops, model)
    alone = half(half(sound["l2"]) + half(sound["r"]))
    isolated = {error.layer.name: error.isolated for error in compared.errors}
    expected = np.linalg.norm(np.maximum(alone, 0) - sound["a"]) / np.linalg.norm(sound["a"])
    assert isolated["add"] == pytest.approx(expected, rel=0.05)
    distances = {error.layer.tensor: error.distance for error in compared.errors}
    emulated = small_oracle(crops, model, half)
    for name in TENSORS:
        off = np.linalg.norm(emulated[name] - sound[name]) / np.linalg.norm(sound[name])
        assert distances[name] == pytest.approx(off, rel=0.1)


def test_bytes_are_taken_where_the_network_takes_them(crops, tmp_path):
    path = str(save(taking_bytes(small_graph()), tmp_path / "bytes.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 48, 3), np.uint8)
    compared = compare_setting(path, "fp16", pixels, options())
    assert compared.first is None and [error.layer.tensor for error in compared.errors][2:] == TENSORS
    with pytest.raises(UserError, match="takes tensor.uint8., but the bins are float32"):
        compare_setting(path, "fp16", crops, options())


# Int8

@pytest.fixture(scope="module")
def int8(crops) -> onnx.ModelProto:
    return quantize_int8(small_graph(), crops, 2, "small")


def test_int8_pairs_are_as_tensorrt_takes_them(int8):
    values = {weight.name: onnx.numpy_helper.to_array(weight) for weight in int8.graph.initializer}
    pairs = [node for node in int8.graph.node if node.op_type == "QuantizeLinear"]
    assert len(pairs) == 5 + 6 + 2  # the 5 tensors that 6 convolutions read, and their weights; both sides of Add
    for node in pairs:
        assert (values[node.input[2]] == 0).all() and values[node.input[2]].dtype == np.int8
        assert (values[node.input[1]] > 0).all()
    per_channel = {node.input[0]: values[node.input[1]].shape for node in pairs if node.input[0] in values}
    assert per_channel["out.w"] == (17,)


def test_quantising_leaves_the_graph_in_memory_as_it_is(crops):
    model = small_graph()
    before = model.SerializeToString()
    quantize_int8(model, crops, 2, "small")
    assert model.SerializeToString() == before


@pytest.mark.parametrize("keep", [["out"], ["stem"], ["left2", "add"], ["stem", "deep", "out"]])
def test_a_kept_layer_is_what_nodes_to_exclude_of_the_quantiser_makes_it(keep, int8, crops, tmp_path):
    from onnxruntime.quantization import QuantType

    operators = ["Conv", "Gemm", "Add"]
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "AddQDQPairToWeight": True,
               "DedicatedQDQPair": True, "OpTypesToExcludeOutputQuantization": operators}
    excluded = quantize(crops, tmp_path, op_types_to_quantize=operators, per_channel=True, extra_options=options,
                        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, nodes_to_exclude=keep)
    model = small_graph()
    pairs = align(model, int8, ("a", "b")).pairs
    types = dict.fromkeys({*pairs, *pairs.values()}, onnx.TensorProto.FLOAT)
    trials = Trials(model, int8, pairs, (types, types), [crops], choose_limits("int8", [], None, None))
    errors = [SimpleNamespace(layer=layer) for layer in find_layers(model) if layer.name in keep]
    mine = Net(trials.keep(errors).model, ["heatmaps"], "kept").run(crops)["heatmaps"]
    theirs = Net(excluded, ["heatmaps"], "excluded").run(crops)["heatmaps"]
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


# What to keep

@pytest.mark.parametrize("least", [1, 2, 3, 7, 8, 9, 16])
def test_fewest_is_the_least_count_that_passes(least):
    tried = []

    def keep(count: int):
        tried.append(count)
        return SimpleNamespace(count=count, passes=count >= least)

    assert fewest(keep, 16).count == least and len(tried) <= 8


def test_fewest_gives_the_most_when_none_passes():
    assert fewest(lambda count: SimpleNamespace(count=count, passes=False), 6).count == 6
    assert fewest(lambda count: SimpleNamespace(count=count, passes=False), 0).count == 0


def test_lists_are_in_the_form_of_each_tool():
    names = ["/conv1/Conv", "/layer1/layer1.0/Add"]
    lists, quantized = keep_lists(names, False), keep_lists(names, True)
    assert lists["keep_dtype"] == "/conv1/Conv\n/layer1/layer1.0/Add\n"
    assert "--layerPrecisions=/conv1/Conv:fp32,/layer1/layer1.0/Add:fp32" in lists["trtexec"].split()
    assert "--precisionConstraints=obey" in lists["trtexec"].split()
    assert "--int8" in quantized["trtexec"].split() and "--int8" not in lists["trtexec"].split()
    assert quantized["keep_dtype"] == "" and quantized["nodes_to_exclude"] == names
    assert lists["modelopt"] == quantized["modelopt"] == "--nodes_to_exclude '^/conv1/Conv$' '^/layer1/layer1\\.0/Add$'"
