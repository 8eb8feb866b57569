"""Which layer of one graph is taken for which of another, whatever a tool has renamed, put in or left out."""
from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT
from layers_cases import (
    LAYERS,
    TENSORS,
    change_weight,
    make_crops,
    node_of,
    onnx,
    options,
    quantize,
    rename_all,
    save,
    small_graph,
)

from comparison.gates import choose_limits
from layers.alignment import align
from layers.comparison import compare_graphs, hold_against
from layers.graphs import find_layers, load_graph, with_opset
from networks.fastpose import load
from pose.spec import load_spec

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_crops()


def test_layers_are_found_with_what_follows_them():
    layers = find_layers(small_graph())
    assert [layer.name for layer in layers] == LAYERS and [layer.tensor for layer in layers] == TENSORS
    assert [layer.kind for layer in layers][:5] == ["Conv+Relu", "Conv+Relu", "Conv", "Conv", "Add+Relu"]
    assert layers[4].inputs == ["l2", "r"] and len(find_layers(small_graph(), fused=False)) == 11


def test_renamed_layers_are_aligned_by_structure():
    """Two branches read the same tensor; they are told by the shapes of their weights."""
    alignment = align(small_graph(), rename_all(small_graph(seed=1)), ("a", "b"))
    assert list(alignment.pairs) == ["image", *TENSORS] and not alignment.alone and not alignment.alone_b
    renamed = find_layers(rename_all(small_graph(seed=1)))
    assert [alignment.pairs[name] for name in TENSORS] == [layer.tensor for layer in renamed]


def test_branches_in_another_order_are_aligned():
    other = rename_all(small_graph())
    nodes = list(other.graph.node)
    nodes.insert(2, nodes.pop(5))  # the convolution of the right branch before those of the left one
    del other.graph.node[:]
    other.graph.node.extend(nodes)
    pairs = align(small_graph(), other, ("a", "b")).pairs
    weights = {layer.tensor: layer.weights for layer in find_layers(other)}
    assert weights[pairs["r"]] == ((6, 6, 1, 1),) and weights[pairs["l"]] == ((6, 6, 3, 3),)


def squeezed(newer: bool) -> onnx.ModelProto:
    """The small network with a channel's mean as its weight before `deep`, in the words of torch's older or newer
    exporter; the newer one has names of its own."""
    model, make = small_graph(), onnx.helper.make_node
    axes = {"flat": [-1, 6], "both": [2, 3]} if newer else {"axis2": [2], "axis3": [3]}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(values, np.int64), name)
                                   for name, values in axes.items())
    mean = [make("ReduceMean", ["a"], ["mean"], name="mean", axes=[2, 3], keepdims=1),
            make("Reshape", ["mean", "flat"], ["row"], name="row"), make("Sigmoid", ["row"], ["gate"], name="gate"),
            make("Unsqueeze", ["gate", "both"], ["wide"], name="wide")] if newer else [
            make("GlobalAveragePool", ["a"], ["mean"], name="mean"), make("Flatten", ["mean"], ["row"], name="row"),
            make("Sigmoid", ["row"], ["gate"], name="gate"),
            make("Unsqueeze", ["gate", "axis2"], ["wide1"], name="wide1"),
            make("Unsqueeze", ["wide1", "axis3"], ["wide"], name="wide")]
    place = next(number for number, node in enumerate(model.graph.node) if node.name == "deep")
    nodes = [*model.graph.node[:place], *mean, make("Mul", ["a", "wide"], ["weighted"], name="weighted"),
             *model.graph.node[place:]]
    node_of(model, "deep").input[0] = "weighted"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return rename_all(model) if newer else model


@pytest.mark.parametrize("fault", [None, "left", "deep"])
def test_the_other_exporter_s_operators_and_names_are_aligned(crops, tmp_path, fault):
    """All but the one Unsqueeze that it does not have; and a layer that is wrong is found all the same."""
    other = squeezed(newer=False)
    if fault:
        change_weight(other, f"{fault}.w", lambda values: values * 1.1)
    compared = compare_graphs(save(other, tmp_path / "a.onnx"), save(squeezed(newer=True), tmp_path / "b.onnx"), crops,
                              options())
    assert [layer.name for layer in compared.alone] == ["wide1"] and not compared.alone_b
    assert (compared.first.layer.name if compared.first else None) == fault


@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_a_file_that_onnx_runtime_optimised_is_aligned(crops, tmp_path, level):
    """Fused operators, and where the CPU has them those of blocked channels, of which some cannot be read."""
    a, optimised = save(small_graph(channels=16), tmp_path / "a.onnx"), tmp_path / f"{level}.onnx"
    optimise(a, optimised, level)
    compared = compare_graphs(a, optimised, crops, options())
    assert compared.agree and compared.first is None and compared.errors


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The demo's FastPose by torch's older exporter, and as `exporter` writes it; made once."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("exported")
    net = load(load_spec(ROOT / "configs/demo_fastpose.yaml"), ROOT / "demo/fastpose_small.pth")
    crop, kept = torch.zeros(1, 3, 256, 192), torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(net, crop, folder / "older.onnx", dynamo=False, opset_version=13)

    def newer(path):
        pytest.importorskip("onnxscript")
        torch.onnx.export(net, (crop,), path, dynamo=True, verbose=False)

    def simplified(path):
        onnx.save(pytest.importorskip("onnxsim").simplify(onnx.load(folder / "older.onnx"))[0], path)

    makers = {
        "newer": newer, "simplified": simplified, "optimised": lambda path: optimise(folder / "older.onnx", path),
        "raw": lambda path: torch.onnx.export(net, crop, path, dynamo=False, do_constant_folding=False),
        "normalisation kept": lambda path: torch.onnx.export(net, crop, path, dynamo=False, training=kept,
                                                             opset_version=13)}

    def export(exporter):
        makers[exporter](folder / f"{exporter}.onnx")
        return folder / "older.onnx", folder / f"{exporter}.onnx"

    return export


def optimise(source, target, level="ORT_ENABLE_ALL"):
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    settings.optimized_model_filepath, settings.log_severity_level = str(target), 4
    onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("exporter", ["newer", "simplified", "optimised", "raw", "normalisation kept"])
def test_every_exporter_s_file_is_the_same_network_and_its_fault_is_named(exporter, exported, tmp_path):
    """No layer of a sound file is blamed; of one whose DepthToSpace takes channels in another order, that is named."""
    a, b = exported(exporter)
    crops = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3, 256, 192)).astype(np.float32)
    sound = compare_graphs(a, b, crops, options(people=2, layer_limit=1e-4))
    assert sound.agree and sound.first is None and {layer.op_types[0] for layer in sound.alone} <= {
        "Unsqueeze", "Conv", "Add", "Gemm"}
    faulty = onnx.load(b)
    shuffle = next(node for node in faulty.graph.node if node.op_type == "DepthToSpace")
    next(attribute for attribute in shuffle.attribute if attribute.name == "mode").s = b"DCR"
    compared = compare_graphs(a, save(faulty, tmp_path / "b.onnx"), crops, options(people=2, layer_limit=1e-4))
    assert compared.first.layer.op_types == ["DepthToSpace"]
    assert compared.fault.what == "the other side computes DepthToSpace with mode=DCR in place of CRD"


def test_the_quantiser_s_own_settings_drop_relus_and_are_aligned_all_the_same(crops, tmp_path):
    """Unsigned activations clip at 0 as a Relu does, so the quantiser leaves that out."""
    b = quantize(crops, tmp_path)
    assert "Relu" not in {node.op_type for node in b.graph.node}
    a = with_opset(small_graph(), 13, "a")
    alignment = align(a, b, ("a", "b"))
    assert not alignment.alone and not alignment.alone_b
    compared = hold_against(a, b, alignment.pairs, ("a", "b"), crops, options())
    assert all(error.isolated < 0.05 for error in compared.errors), [error.isolated for error in compared.errors]


def test_a_float16_file_of_another_tool_is_aligned_through_its_casts(crops, tmp_path):
    float16 = pytest.importorskip("onnxruntime.transformers.float16")
    path = save(float16.convert_float_to_float16(small_graph(), keep_io_types=True), tmp_path / "half.onnx")
    a, b = small_graph(), load_graph(path)
    alignment = align(a, b, ("a", "half"))
    assert not alignment.alone and not alignment.alone_b
    compared = hold_against(a, b, alignment.pairs, ("a", "half"), crops, options(budget=4, limits=choose_limits(
        "fp16", ["cosine=1", "argmax=0"], None, None)))
    assert compared.first is None and all(0 < error.distance < 5e-3 for error in compared.errors)
    assert compared.kept.layers  # the gate asks for more than float16 gives, so mixed networks were run too
