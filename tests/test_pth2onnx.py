"""The export: numbers equal to torch's, graphs that old converters take, one whole file or none."""
from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import done, one_error, tree, write_config

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxsim")

from networks import onnx_export  # noqa: E402
from networks.registry import build_network, load_network  # noqa: E402
from pose.spec import PoseSpec, load_spec  # noqa: E402

CFG_MODEL = "TYPE: FastPose, NUM_LAYERS: 50, WIDTH: 0.05"
OPERATORS = {"Conv", "Relu", "MaxPool", "Add", "Mul", "Sigmoid", "GlobalAveragePool", "Flatten", "Gemm", "MatMul",
             "Unsqueeze", "DepthToSpace", "Reshape", "Transpose", "Constant"}


def narrow_checkpoint(path: Path, config: PoseSpec, seed: int = 0) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(build_network(config).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, script) -> SimpleNamespace:
    """A narrow network exported by the script at opset 11: any batch, 1 and 4."""
    folder = tmp_path_factory.mktemp("narrow")
    cfg = write_config(folder / "narrow.yaml", (64, 32), (16, 8), CFG_MODEL)
    config = load_spec(cfg)
    checkpoint = narrow_checkpoint(folder / "narrow.pth", config)
    done(script("pth2onnx.py", cfg, checkpoint, folder / "onnx" / "narrow.onnx", "--batch", 1, 4))
    return SimpleNamespace(cfg=cfg, config=config, checkpoint=checkpoint, folder=folder / "onnx")


def session_of(path: Path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def shapes_of(model) -> tuple:
    return tuple([dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
                 for value in (model.graph.input[0], model.graph.output[0]))


def assert_equals_torch(path: Path, network, rows: np.ndarray, relative: float) -> None:
    with torch.inference_mode():
        expected = network(torch.from_numpy(rows)).numpy()
    heatmaps = session_of(path).run(["output"], {"image": rows})[0]
    assert np.abs(heatmaps - expected).max() <= relative * np.abs(expected).max()


def test_recipe_a_weights_export_within_a_hundred_thousandth(shared, tmp_path, script):
    """The full network with the golden recipe's weights, on a golden crop."""
    from test_fastpose import recipe_a

    weights = recipe_a(json.loads((shared / "reference" / "fast_res50_state_dict.json").read_text()))
    torch.save(weights, tmp_path / "recipe.pth")
    done(script("pth2onnx.py", "configs/256x192_res50_lr1e-3_1x.yaml", tmp_path / "recipe.pth",
                tmp_path / "recipe.onnx", "--batch", 1))
    golden = np.load(shared / "golden" / "fastpose.npz")
    crop = np.load(shared / "golden" / "crops.npz")["crop_u8"][golden["crop_index"]]
    rows = crop.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    rows -= np.array([0.406, 0.457, 0.480], np.float32)[:, None, None]
    network = load_network(PoseSpec(), tmp_path / "recipe.pth")
    for name in ("recipe.onnx", "recipe_bs1.onnx"):
        assert_equals_torch(tmp_path / name, network, np.ascontiguousarray(rows), 1e-5)
        heatmaps = session_of(tmp_path / name).run(None, {"image": np.ascontiguousarray(rows)})[0]
        np.testing.assert_allclose(heatmaps, golden["heatmap_f32"], rtol=0, atol=1e-4)
    for path in tmp_path.iterdir():
        path.unlink()  # 0.5 GB, which pytest would keep for three runs


def test_shapes_and_names(narrow):
    for name, batch in (("narrow.onnx", None), ("narrow_bs1.onnx", 1), ("narrow_bs4.onnx", 4)):
        model = onnx.load(str(narrow.folder / name))
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "output"]
        image, output = shapes_of(model)
        assert (image[1:], output[1:]) == ([3, 64, 32], [17, 16, 8])
        assert image[0] == output[0] and (image[0] == batch if batch else isinstance(image[0], str))


@pytest.mark.parametrize("people", [1, 3, 5])
def test_the_file_of_any_batch_takes_any_batch(narrow, people):
    rows = np.random.default_rng(people).uniform(-0.5, 0.6, (people, 3, 64, 32)).astype(np.float32)
    assert_equals_torch(narrow.folder / "narrow.onnx", load_network(narrow.config, narrow.checkpoint), rows, 1e-5)


def test_files_of_one_batch_are_static_plain_and_equal_torch(narrow):
    network = load_network(narrow.config, narrow.checkpoint)
    for batch in (1, 4):
        path = narrow.folder / f"narrow_bs{batch}.onnx"
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        assert {node.op_type for node in model.graph.node} <= OPERATORS
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        for value in inferred.graph.value_info:
            assert all(dimension.dim_value > 0 for dimension in value.type.tensor_type.shape.dim), value.name
        rows = np.random.default_rng(batch).uniform(-0.5, 0.6, (batch, 3, 64, 32)).astype(np.float32)
        assert_equals_torch(path, network, rows, 1e-5)


def test_every_file_is_whole_by_itself_and_readable_by_its_group(narrow):
    assert sorted(path.name for path in narrow.folder.iterdir()) == ["narrow.onnx", "narrow_bs1.onnx",
                                                                     "narrow_bs4.onnx"]
    for path in narrow.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        model = onnx.load(str(path), load_external_data=False)
        assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert stat.S_IMODE(narrow.folder.stat().st_mode) == 0o750


@pytest.mark.parametrize("opset, ir_version", [(13, 7), (17, 8)])
def test_other_opsets(narrow, tmp_path, main, opset, ir_version):
    done(main("pth2onnx", narrow.cfg, narrow.checkpoint, tmp_path / "m.onnx", "--batch", 2, "--opset", opset))
    network = load_network(narrow.config, narrow.checkpoint)
    rows = np.random.default_rng(0).uniform(-0.5, 0.6, (2, 3, 64, 32)).astype(np.float32)
    for name in ("m.onnx", "m_bs2.onnx"):
        model = onnx.load(str(tmp_path / name))
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        assert model.ir_version == ir_version
        assert_equals_torch(tmp_path / name, network, rows, 1e-5)


def test_opset_11_is_the_default_with_the_ir_of_its_age(narrow):
    for path in narrow.folder.iterdir():
        model = onnx.load(str(path))
        assert model.ir_version == 6 and [entry.version for entry in model.opset_import] == [11]


def test_a_second_run_keeps_what_is_there_and_makes_what_is_new(narrow, tmp_path, main, monkeypatch):
    path = tmp_path / "m.onnx"
    for source in narrow.folder.iterdir():
        (tmp_path / source.name.replace("narrow", "m")).write_bytes(source.read_bytes())
    monkeypatch.setattr(onnx_export, "export", None)  # an export would fail
    before = tree(tmp_path)
    assert done(main("pth2onnx", narrow.cfg, narrow.checkpoint, path, "--batch", 1, 4)).count("kept") == 3
    monkeypatch.undo()
    output = done(main("pth2onnx", narrow.cfg, narrow.checkpoint, path, "--batch", 1, 2))
    assert output.count("kept") == 2 and output.count("written") == 1
    after = tree(tmp_path)
    assert after.keys() - before.keys() == {"m_bs2.onnx"} and before.items() <= after.items()


def test_other_weights_are_exported_anew(narrow, tmp_path, main):
    path = tmp_path / "narrow.onnx"
    path.write_bytes((narrow.folder / "narrow.onnx").read_bytes())
    other = narrow_checkpoint(tmp_path / "other.pth", narrow.config, seed=1)
    assert "written" in done(main("pth2onnx", narrow.cfg, other, path))
    rows = np.random.default_rng(0).uniform(-0.5, 0.6, (2, 3, 64, 32)).astype(np.float32)
    assert_equals_torch(path, load_network(narrow.config, other), rows, 1e-5)


def test_an_onnx_file_that_differs_from_torch_is_not_left(narrow, tmp_path, main, monkeypatch):
    def wrong(model, config, batch):
        weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        values = onnx.numpy_helper.to_array(weights) * np.float32(1.01)
        weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
        return model

    monkeypatch.setattr(onnx_export, "simplify", wrong)
    error = one_error(main("pth2onnx", narrow.cfg, narrow.checkpoint, tmp_path / "m.onnx"))
    assert "differs from torch" in error and not list(tmp_path.glob("m*"))


def test_a_graph_that_computes_shapes_is_not_left(narrow, tmp_path, main, monkeypatch):
    def leave_shapes(model, config, batch):
        model.graph.node.append(onnx.helper.make_node("Shape", ["image"], ["shape"]))
        return model

    monkeypatch.setattr(onnx_export, "simplify", leave_shapes)
    assert "Shape" in one_error(main("pth2onnx", narrow.cfg, narrow.checkpoint, tmp_path / "m.onnx", "--batch", 1))
    assert not (tmp_path / "m_bs1.onnx").exists()


def spoil(weights: dict, how: str) -> object:
    weights = dict(weights)
    if how == "missing":
        del weights["conv_out.weight"]
    elif how == "extra":
        weights["head.weight"] = torch.zeros(1)
    elif how == "misshapen":
        weights["conv_out.weight"] = weights["conv_out.weight"][:5]
    return weights


@pytest.mark.parametrize("how, key", [("missing", "conv_out.weight"), ("extra", "head.weight"),
                                      ("misshapen", "conv_out.weight")])
def test_a_wrong_checkpoint_says_which_keys_and_leaves_nothing(narrow, tmp_path, main, how, key):
    torch.save(spoil(torch.load(narrow.checkpoint, weights_only=True), how), tmp_path / "wrong.pth")
    error = one_error(main("pth2onnx", narrow.cfg, tmp_path / "wrong.pth", tmp_path / "onnx" / "m.onnx", "--batch", 1))
    assert key in error and "wrong.pth" in error
    assert not list(tmp_path.rglob("*.onnx*"))


def test_a_checkpoint_of_another_width_is_refused(narrow, tmp_path, main):
    wide = narrow_checkpoint(tmp_path / "wide.pth", dataclasses.replace(narrow.config, parameters={"WIDTH": 0.1}))
    assert "WIDTH" in one_error(main("pth2onnx", narrow.cfg, wide, tmp_path / "m.onnx"))


@pytest.mark.parametrize("content", [None, b"", b"text"])
def test_what_is_no_checkpoint_is_refused(narrow, tmp_path, main, content):
    if content is not None:
        (tmp_path / "no.pth").write_bytes(content)
    assert "no.pth" in one_error(main("pth2onnx", narrow.cfg, tmp_path / "no.pth", tmp_path / "m.onnx"))
    assert not list(tmp_path.glob("*.onnx*"))


@pytest.mark.parametrize("arguments", [["m.om"], ["m.onnx", "--batch", "0"], ["m.onnx", "--opset", "12"],
                                       ["m.onnx", "--batch", "x"]])
def test_wrong_arguments_are_usage_errors(narrow, tmp_path, main, arguments):
    finished = main("pth2onnx", narrow.cfg, narrow.checkpoint, tmp_path / arguments[0], *arguments[1:])
    assert finished.returncode == 2 and not list(tmp_path.iterdir())
