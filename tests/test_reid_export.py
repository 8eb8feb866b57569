"""The export of a ReID checkpoint: FastReID's flags and ours, ONNX equal to torch, and the other formats' builders."""
from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from conftest import ROOT, done, one_error
from golden.weights import fill

from contract.spec import load_spec

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxsim")

from networks.bot import BagTricks  # noqa: E402

SMALL = "TASK: reid\nMODEL: {BACKBONE: {WIDTH: 0.125}}\nINPUT: {SIZE_TEST: [64, 32]}\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A narrow network, its YAML and its checkpoint, as FastReID wraps it."""
    folder = tmp_path_factory.mktemp("reid")
    (folder / "small.yaml").write_text(SMALL)
    network = fill(BagTricks(width=0.125, identities=3))
    torch.save({"model": network.state_dict(), "iteration": 7}, folder / "small.pth")
    return folder, network


def run(path, rows: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path)).run(["output"], {"image": rows})[0]


def expected_of(network, pixels: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(pixels)).numpy()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 64, 32)).astype(np.float32)


def test_onnx_and_caffe_by_our_flags(model, pixels, tmp_path, main):
    folder, network = model
    base = tmp_path / "models" / "bot"
    done(main("reid.export", "--config-file", folder / "small.yaml", "--checkpoint", folder / "small.pth", "--output",
              base, "--format", "onnx", "caffe", "--batch-size", 2))
    expected = expected_of(network, pixels)
    np.testing.assert_allclose(run(f"{base}.onnx", pixels), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(run(f"{base}_bs2.onnx", pixels[:2]), expected[:2], rtol=0,
                               atol=1e-4 * np.abs(expected).max())
    net = cv2.dnn.readNetFromCaffe(f"{base}.prototxt", f"{base}.caffemodel")
    net.enableWinograd(False)
    net.setInput(pixels)
    np.testing.assert_allclose(net.forward(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_fastreids_own_command_line(model, tmp_path, main):
    folder, _ = model
    done(main("reid.export", "--config-file", folder / "small.yaml", "--name", "baseline_R50", "--output",
              tmp_path / "out", "--batch-size", 1, "--opts", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS",
              folder / "small.pth"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"baseline_R50.onnx", "baseline_R50_bs1.onnx"}


def test_bytes_in_and_features_of_length_one_out(model, pixels, tmp_path, main):
    folder, network = model
    done(main("reid.export", "--config-file", folder / "small.yaml", "--checkpoint", folder / "small.pth", "--output",
              tmp_path / "bot", "--dtype", "uint8", "--l2"))
    came = run(tmp_path / "bot_uint8.onnx", pixels.transpose(0, 2, 3, 1).astype(np.uint8))
    expected = expected_of(network, pixels)
    np.testing.assert_allclose(came, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=0, atol=1e-5)


def test_pth2onnx_takes_a_reid_config(model, pixels, tmp_path, main):
    folder, network = model
    done(main("pth2onnx", folder / "small.yaml", folder / "small.pth", tmp_path / "bot.onnx"))
    expected = expected_of(network, pixels)
    np.testing.assert_allclose(run(tmp_path / "bot.onnx", pixels), expected, rtol=0,
                               atol=1e-4 * np.abs(expected).max())


def test_a_detector_is_sent_to_its_own_export(tmp_path, main):
    message = one_error(main("pth2onnx", ROOT / "configs" / "yolov3-spp.cfg", "a.weights", tmp_path / "a.onnx"))
    assert "detection.export" in message


def test_from_an_onnx_file_of_another_network(shared, tmp_path, main):
    """A real network with depthwise convolutions; only its size is asked of the config."""
    done(main("reid.export", "--onnx-model", shared / "models" / "osnet_x0_25.onnx", "--height", 256, "--width", 128,
              "--name", "osnet", "--output", tmp_path, "--format", "caffe"))
    assert {path.name for path in tmp_path.iterdir()} == {"osnet.prototxt", "osnet.caffemodel"}


@pytest.mark.parametrize("flags, says", [
    ((), "expected --checkpoint FILE"), (("--opts", "MODEL.WEIGHTS"), "expected KEY VALUE|expected --checkpoint"),
    (("--checkpoint", "none.pth"), "none.pth: no such checkpoint"),
    (("--format", "om", "--checkpoint", "a.pth"), "--soc_version"),
    (("--checkpoint", "a.pth", "--opts", "MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPooling"), "POOL_LAYER")])
def test_bad_input_is_one_line(tmp_path, main, flags, says):
    assert re.search(says, one_error(main("reid.export", "--output", tmp_path / "bot", *flags)))
    assert not list(tmp_path.iterdir())


def test_another_size_than_the_onnx_files_is_refused(shared, tmp_path, main):
    message = one_error(main("reid.export", "--onnx-model", shared / "models" / "osnet_x0_25.onnx", "--height", 384,
                             "--output", tmp_path / "o"))
    assert "takes (3, 256, 128), expected (3, 384, 128)" in message


def test_a_builder_that_fails_ends_the_export_with_its_code(model, tmp_path, main):
    """A division by the length is no layer of Caffe's."""
    folder, _ = model
    finished = main("reid.export", "--config-file", folder / "small.yaml", "--checkpoint", folder / "small.pth",
                    "--output", tmp_path / "bot", "--l2", "--format", "caffe")
    assert finished.returncode == 2 and not (tmp_path / "bot.prototxt").exists()


def test_l2_is_said_by_the_config_too(tmp_path):
    (tmp_path / "a.yaml").write_text(SMALL.replace("}}", "}, HEADS: {L2: true}}"))
    assert load_spec(tmp_path / "a.yaml").parameters["L2"] is True
