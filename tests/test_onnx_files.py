"""ONNX files that somebody else made: exported in training mode, of several outputs, of other names."""
from __future__ import annotations

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

from backends.rooms import open_backend
from contract.errors import UserError
from contract.onnx_file import load_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def changed(path, change):
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return path


def several_outputs(*names):
    """The outputs that a file gives, each the same numbers."""

    def change(graph):
        shape, last = graph.output[0].type, graph.output[0].name
        del graph.output[:]
        for name in names:
            graph.node.append(onnx.helper.make_node("Identity", [last], [name]))
            graph.output.append(onnx.ValueInfoProto(name=name, type=shape))
    return change


@pytest.mark.parametrize(("names", "words"), [
    (("boxes", "confs"), ["2 outputs, boxes (N x 17 x 16 x 12), confs", "python3 -m detection.export CFG WEIGHTS"]),
    (("heatmaps", "features", "depth"), ["3 outputs, heatmaps", "extract_model"]),
])
def test_several_outputs_are_refused_by_their_names(tmp_path, names, words):
    path = changed(patch_model(tmp_path / "m.onnx"), several_outputs(*names))
    with pytest.raises(UserError) as error:
        open_backend("onnxruntime", path)
    message = str(error.value)
    assert all(word in message for word in words) and "\n" not in message


def test_the_proposed_command_leaves_one_output(tmp_path):
    path = changed(patch_model(tmp_path / "m.onnx"), several_outputs("heatmaps", "depth"))
    onnx.utils.extract_model(str(path), str(tmp_path / "one.onnx"), ["image"], ["heatmaps"])
    rows = np.random.default_rng(0).random((2, 3, 64, 48), np.float32)
    np.testing.assert_allclose(open_backend("onnxruntime", tmp_path / "one.onnx").infer(rows), patch_heatmaps(rows),
                               rtol=1e-4, atol=1e-4)


def test_an_input_of_another_name_is_run(tmp_path):
    """AlphaPose_TRT calls it `input`."""
    def rename(graph):
        graph.input[0].name = graph.node[0].input[0] = "input"

    path = changed(patch_model(tmp_path / "m.onnx"), rename)
    rows = np.random.default_rng(0).random((2, 3, 64, 48), np.float32)
    np.testing.assert_allclose(open_backend("onnxruntime", path).infer(rows), patch_heatmaps(rows), rtol=1e-4,
                               atol=1e-4)


@pytest.fixture(scope="module")
def trained():
    torch = pytest.importorskip("torch")
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 17, 4, 4), nn.BatchNorm2d(17), nn.Dropout(0.5))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [11, 12, 13, 14, 17])
def test_what_torch_exports_in_training_mode_is_refused_and_in_eval_mode_is_run(trained, tmp_path, opset):
    import torch

    for training, refused in ((torch.onnx.TrainingMode.TRAINING, True), (torch.onnx.TrainingMode.EVAL, False)):
        path = tmp_path / f"{training.name}.onnx"
        torch.onnx.export(trained, torch.zeros(1, 3, 64, 48), path, dynamo=False, opset_version=opset,
                          training=training, do_constant_folding=False)
        if refused:
            with pytest.raises(UserError, match="BatchNormalization .* is in training mode.*network.eval()"):
                load_onnx(path)
        else:
            assert open_backend("onnxruntime", path).output_shape == (1, 17, 16, 12)


def graph_of(*nodes, initializers=()):
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    return onnx.helper.make_graph(nodes, "g", values[:1], values[1:], initializers)


@pytest.mark.parametrize(("opset", "active", "trains"), [
    (12, True, True), (12, False, False), (13, None, False), (11, None, False), (6, None, True)])
@pytest.mark.parametrize("as_constant", [True, False])
def test_dropout_that_drops_is_refused(tmp_path, opset, active, trains, as_constant):
    """Without its third input it drops nothing; up to opset 6 it drops unless is_test says otherwise."""
    inputs, nodes, weights = ["x"], [], []
    if active is not None:
        switch = onnx.numpy_helper.from_array(np.array(active), "switch")
        inputs += ["", "switch"]
        if as_constant:
            nodes.append(onnx.helper.make_node("Constant", [], ["switch"], value=switch))
        else:
            weights.append(switch)
    nodes.append(onnx.helper.make_node("Dropout", inputs, ["y"], name="drop"))
    model = onnx.helper.make_model(graph_of(*nodes, initializers=weights),
                                   opset_imports=[onnx.helper.make_opsetid("", opset)])
    onnx.save(model, tmp_path / "m.onnx")
    if trains:
        with pytest.raises(UserError, match="Dropout drop is in training mode"):
            load_onnx(tmp_path / "m.onnx")
    else:
        load_onnx(tmp_path / "m.onnx")
