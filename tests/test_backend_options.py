"""Options of single rooms: who takes them, what they change, and that a missing GPU is one line."""
from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import done, one_error, patch_model
from detection_cases import random_weights, tiny_cfg

from backends.rooms import open_backend
from contract.errors import UserError
from detection.darknet import read_cfg, write_weights
from pose.spec import PoseSpec

CONFIG = PoseSpec(input_size=(64, 32), heatmap_size=(16, 8), parameters={"WIDTH": 0.25})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch = pytest.importorskip("torch")
    from networks.registry import build_network

    path = tmp_path_factory.mktemp("checkpoint") / "model.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(build_network(CONFIG).state_dict(), path)
    return path


def crops(people: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.6, (people, *CONFIG.input_shape)).astype(np.float32)


@pytest.mark.parametrize("option, backend, takers", [
    (["--precision", "fp16"], "onnxruntime", "pytorch, openvino, ncnn"),
    (["--provider", "cuda"], "pytorch", "onnxruntime"),
    (["--no-cuda_graph"], "onnxruntime", "pytorch, tensorrt"),
    (["--precision", "fp16"], "acl", "pytorch, openvino, ncnn")])
def test_an_option_that_a_room_lacks_is_refused_with_those_that_have_it(infer, option, backend, takers):
    message = one_error(infer("--backend", backend, *option))
    flag = option[0].replace("--no-", "--")
    assert f"{flag}: the {backend} backend has no such option; it is for {takers}. Leave" in message


def test_what_was_not_given_is_not_passed_on(work, infer):
    """The small model's room knows nothing of precision; its provider is in the settings, given or not."""
    done(infer())
    done(infer("--provider", "cpu"))  # the same run: it continues
    settings = json.loads((work / "results" / "new" / "settings.json").read_text())
    assert settings["provider"] == "cpu" and settings["precision"] == "fp32"


def test_detections_of_another_precision_are_not_kept(tmp_path, coco, main):
    pytest.importorskip("torch")
    (tmp_path / "net.cfg").write_text(tiny_cfg(classes=1))
    network = read_cfg(tmp_path / "net.cfg")
    write_weights(tmp_path / "net.weights", network, random_weights(network))
    command = ["detect", "--dataroot", coco, "--yolo_cfg", tmp_path / "net.cfg", "--weights", tmp_path / "net.weights",
               "--output", tmp_path / "found.json", "--backend", "pytorch"]
    done(main(*command, "--precision", "bf16"))
    record = json.loads((tmp_path / "found.json.settings.json").read_text())
    assert record["options"] == {"precision": "bf16"}
    assert (record["device"]["precision"], record["device"]["vendor_precision"]) == ("bf16", "bfloat16")
    assert "kept" in done(main(*command, "--precision", "bf16"))
    assert "options was" in one_error(main(*command))


@pytest.mark.parametrize("precision, least, most", [("fp16", 0.99999, 1e-3), ("bf16", 0.999, 1e-2)])
def test_half_precision_on_a_cpu(checkpoint, precision, least, most):
    """Rounding to 11 and to 8 bits: near float32, and not it."""
    full, half = (open_backend("pytorch", checkpoint, None, CONFIG, **options)
                  for options in ({}, {"precision": precision}))
    expected, came = full.infer(crops(5)), half.infer(crops(5))
    assert came.dtype == np.float32 and came.flags.c_contiguous
    assert not np.array_equal(came, expected)
    wide, near = expected.astype(np.float64), came.astype(np.float64)  # float32 rounds a cosine of 1 - 1e-8 to 1
    assert np.vdot(wide, near) / np.linalg.norm(wide) / np.linalg.norm(near) > least
    np.testing.assert_allclose(came, expected, rtol=0, atol=most * 3 * np.abs(expected).max())
    assert half.describe()["precision"] == precision
    assert "cuda_graph" not in half.describe()


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "1"])
def test_no_gpu_is_one_line(checkpoint, device):
    if pytest.importorskip("torch").cuda.device_count() > 1:
        pytest.skip("this machine has two CUDA GPUs")
    if device == "cuda" and pytest.importorskip("torch").cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(UserError, match=f"^--device {device}: torch [^\n]*cannot use it[^\n]*Expected cpu, cuda"):
        open_backend("pytorch", checkpoint, device, CONFIG)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_names_the_package(infer, provider):
    onnxruntime = pytest.importorskip("onnxruntime")
    if len(onnxruntime.get_available_providers()) > 2:
        pytest.skip("this ONNX Runtime has GPU providers")
    assert "pip install onnxruntime-gpu" in one_error(infer("--provider", provider))


@pytest.fixture()
def gpu_package(monkeypatch):
    """An ONNX Runtime that says it has the GPU providers, and what its sessions are asked for."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session, asked = onnxruntime.InferenceSession, SimpleNamespace(providers=None, first="CUDAExecutionProvider")

    class Session:
        def __init__(self, path, options, providers):
            asked.providers, self.real = providers, session(path, options, providers=["CPUExecutionProvider"])
            self.fallback = True

        def disable_fallback(self):
            self.fallback = False

        def get_providers(self):
            return [asked.first, "CPUExecutionProvider"]

        def __getattr__(self, name):
            return getattr(self.real, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [
        "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    return asked


@pytest.mark.parametrize("device, number", [(None, "0"), ("cuda", "0"), ("cuda:1", "1"), ("1", "1")])
def test_onnxruntime_on_a_gpu(gpu_package, tmp_path, device, number):
    backend = open_backend("onnxruntime", patch_model(tmp_path / "model.onnx"), device, provider="cuda")
    (name, options), = gpu_package.providers
    assert name == "CUDAExecutionProvider" and options["device_id"] == number and options["use_tf32"] == "0"
    assert backend.describe()["device"] == f"cuda:{number}" and backend.describe()["provider"] == "cuda"
    assert not backend.session.fallback


def test_onnxruntime_on_tensorrt(gpu_package, tmp_path):
    gpu_package.first = "TensorrtExecutionProvider"
    open_backend("onnxruntime", patch_model(tmp_path / "model.onnx"), "2", provider="tensorrt")
    assert [name for name, _ in gpu_package.providers] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert {options["device_id"] for _, options in gpu_package.providers} == {"2"}
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_a_silent_fall_back_to_the_cpu_is_refused(gpu_package, tmp_path):
    gpu_package.first = "CPUExecutionProvider"
    with pytest.raises(UserError, match="^--provider cuda: [^\n]*fell back to CPUExecutionProvider[^\n]*$"):
        open_backend("onnxruntime", patch_model(tmp_path / "model.onnx"), provider="cuda")


@pytest.mark.parametrize("provider, device", [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda:x"), ("tensorrt", "-1")])
def test_a_device_that_does_not_suit_the_provider(gpu_package, tmp_path, provider, device):
    with pytest.raises(UserError, match=f"^--device {device}: [^\n]*--provider[^\n]*$"):
        open_backend("onnxruntime", patch_model(tmp_path / "model.onnx"), device, provider=provider)
