"""Which layer of one graph is taken for which of another, whatever a tool has renamed, put in or left out."""
from __future__ import annotations

import numpy as np
import pytest
from layers_cases import LAYERS, TENSORS, make_crops, options, quantize, rename_all, save, small_graph

from comparison.gates import choose_limits
from layers.alignment import align
from layers.comparison import hold_against
from layers.graphs import find_layers, load_graph, with_opset


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
