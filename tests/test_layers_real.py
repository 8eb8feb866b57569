"""compare_layers.py on networks of the size that it is made for: COCO-trained weights, and the demo's FastPose."""
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import ROOT, done, write_config
from layers_cases import change_weight, onnx, save


@pytest.fixture()
def compare_layers(main, tmp_path):
    """Run compare_layers.py; what its JSON says, and its layers by the names of their nodes."""

    def run(*arguments: object, bins: Path, cfg: Path):
        finished = main("compare_layers", *arguments, "--input", bins, "--cfg", cfg, "--output", tmp_path / "out")
        assert finished.returncode in (0, 1), finished.stderr
        finished.json = json.loads((tmp_path / "out" / "layers.json").read_text())
        finished.of = {layer["node"]: SimpleNamespace(**layer) for layer in finished.json["layers"]}
        return finished

    return run


@pytest.fixture(scope="session")
def real(shared, tmp_path_factory) -> SimpleNamespace:
    """COCO-trained weights and crops of real photographs."""
    folder = tmp_path_factory.mktemp("real_layers")
    model = onnx.load(shared / "models" / "ultralight_simplepose.onnx")
    for node in model.graph.node:  # its exporter wrote spatial=0, which only runtimes that fold the node away accept
        kept = [attribute for attribute in node.attribute if attribute.name != "spatial"]
        del node.attribute[:]
        node.attribute.extend(kept)
    (folder / "bins").mkdir()
    for path in sorted((shared / "data" / "coco_mini" / "val2017").glob("*.jpg"))[:4]:
        crop = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (192, 256)), cv2.COLOR_BGR2RGB) / np.float32(255)
        ((crop - 0.45) / 0.225).transpose(2, 0, 1).astype(np.float32).tofile(folder / "bins" / f"{path.stem}.bin")
    cfg = write_config(folder / "cfg.yaml", (256, 192), (64, 48), "TYPE: Ultralight")
    return SimpleNamespace(folder=folder, model=model, path=save(model, folder / "real.onnx"),
                           options={"bins": folder / "bins", "cfg": cfg})


def test_real_weights_in_float16_agree_and_no_layer_is_blamed(real, compare_layers):
    finished = compare_layers(real.path, "--against", "fp16", "--limit", "argmax=0.9", **real.options)
    assert finished.returncode == 0 and finished.json["first"] is None and len(finished.of) > 60


@pytest.mark.parametrize("number", [0, 17, 40, 58])
def test_in_a_real_network_the_layer_with_other_weights_is_named_first(number, real, compare_layers, tmp_path):
    faulty = onnx.ModelProto.FromString(real.model.SerializeToString())
    convolutions = [node for node in faulty.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    noise = np.random.default_rng(0)
    change_weight(faulty, convolutions[number].input[1],
                  lambda values: values * (1 + 0.1 * noise.standard_normal(values.shape)))
    other = save(faulty, tmp_path / "b.onnx")
    finished = compare_layers(real.path, other, "--people", 2, "--keep_budget", 2, **real.options)
    assert finished.json["first"] == convolutions[number].name
    assert [layer for layer in finished.json["layers"] if layer["grows"]][1:] == []


@pytest.fixture(scope="module")
def demo_model(script, tmp_path_factory) -> Path:
    pytest.importorskip("torch", reason="the demo exports its checkpoint with torch")
    path = tmp_path_factory.mktemp("demo_layers") / "fastpose_small.onnx"
    done(script("pth2onnx.py", "configs/demo_fastpose.yaml", "demo/fastpose_small.pth", path))
    return path


def test_the_demo_network_in_float16_and_int8(demo_model, compare_layers, tmp_path):
    (tmp_path / "bins").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):  # smooth colours: noise of every pixel is not what it was trained on
        coarse = rng.uniform(-0.45, 0.55, (16, 12, 3)).astype(np.float32)
        cv2.resize(coarse, (192, 256)).transpose(2, 0, 1).tofile(tmp_path / "bins" / f"{number}.bin")
    options = {"bins": tmp_path / "bins", "cfg": ROOT / "configs" / "demo_fastpose.yaml"}
    finished = compare_layers(demo_model, "--against", "fp16", "--limit", "argmax=0.5", **options)
    assert finished.returncode == 0 and finished.json["first"] is None
    kinds = {layer.type for layer in finished.of.values()}
    assert {"Conv+Relu", "Add+Relu", "Gemm+Relu", "Gemm+Sigmoid", "DepthToSpace"} <= kinds
    finished = compare_layers(demo_model, "--against", "int8", "--keep_budget", 0, **options)
    assert finished.json["first"] is None and finished.of["/preact/conv1/Conv"].isolated > 1e-3
