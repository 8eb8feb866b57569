"""The record beside an engine, and engines that do not belong here."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import patch_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from tensorrt_cases import build_engine  # noqa: E402

from backends.tensorrt.backend import Backend  # noqa: E402
from contract.errors import UserError  # noqa: E402
from tests.tensorrt_emulator import emulated  # noqa: E402

COMMAND = "python3 -m backends.tensorrt.build models/m.onnx --precision fp16"


@pytest.fixture()
def model(tmp_path) -> Path:
    return patch_model(tmp_path / "m.onnx", 4)


def refusal(engine: Path, **machine: object) -> str:
    """What the backend says of an engine; it must not have given it to TensorRT where a record says enough."""
    with emulated(**machine) as here:
        with pytest.raises(UserError, match="^[^\n]*$") as caught:
            Backend(engine)
        text = str(caught.value)
        del caught
        assert here.state.leaks() == {}
        assert not here.counts["Runtime.deserialize_cuda_engine"] or not Path(f"{engine}.json").exists()
    assert str(engine) in text
    return text


def test_a_engine_of_this_machine_is_taken_and_described(tmp_path, model):
    engine = build_engine(model, tmp_path / "m.engine", record=COMMAND)
    with emulated() as machine:
        backend = Backend(engine)
        assert backend.describe() == {"device": machine.gpu, "precision": "fp32", "vendor_precision": "fp32",
                                      "tf32": False, "tensorrt": "10.3.0", "emulated": True}
        backend.close()
    record = json.loads(Path(f"{engine}.json").read_text())
    assert record["compute_capability"] == "8.0" and record["cuda_driver"] == "12.8"
    assert record["cuda_runtime"] == "12.9" and len(record["engine_sha256"]) == 64


@pytest.mark.parametrize("built, here, words", [
    ({"tensorrt": "8.6.1"}, {"tensorrt": "10.3.0"}, "built by TensorRT 8.6.1 .*but here TensorRT is 10.3.0"),
    ({"tensorrt": "10.3.0"}, {"tensorrt": "10.3.1"}, "built by TensorRT 10.3.0 .*but here TensorRT is 10.3.1"),
    ({"gpu": "Tesla T4", "compute_capability": (7, 5)}, {},
     r"for compute capability 7.5 \(Tesla T4\), but here compute capability is 8.0 \(NVIDIA A100-SXM4-40GB\)")])
def test_a_engine_of_another_machine_is_refused_with_the_command(tmp_path, model, built, here, words):
    text = refusal(build_engine(model, tmp_path / "m.engine", record=COMMAND, **built), **here)
    assert text.endswith(f"Build it here: {COMMAND}")
    with pytest.raises(UserError, match=words):
        raise UserError(text)


@pytest.mark.parametrize("built, words", [
    ({"tensorrt": "8.6.1"}, "expecting library version 10.3.0 got 8.6.1, please rebuild"),
    ({"compute_capability": (7, 5)}, "expecting compute 8.0 got compute 7.5, please rebuild")])
def test_without_a_record_tensorrt_is_asked_and_quoted(tmp_path, model, built, words):
    text = refusal(build_engine(model, tmp_path / "m.engine", **built))
    assert words in text and "python3 -m backends.tensorrt.build" in text


def test_another_gpu_of_the_same_architecture_is_let_through(tmp_path, model):
    engine = build_engine(model, tmp_path / "m.engine", record=COMMAND, gpu="NVIDIA A100-PCIE-80GB")
    with emulated():
        Backend(engine).close()


def test_a_record_of_another_engine_is_refused(tmp_path, model):
    engine = build_engine(model, tmp_path / "m.engine", record=COMMAND)
    engine.write_bytes(engine.read_bytes() + b" ")
    assert "is not the engine that" in refusal(engine) and COMMAND in refusal(engine)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"tensorrt": 10}', "no JSON"])
def test_a_damaged_record_is_refused(tmp_path, model, content):
    engine = build_engine(model, tmp_path / "m.engine")
    Path(f"{engine}.json").write_text(content)
    assert f"{engine}.json: expected" in refusal(engine)


def test_a_damaged_engine_is_refused(tmp_path, model):
    engine = build_engine(model, tmp_path / "m.engine")
    whole = engine.read_bytes()
    for content in (b"", b"no engine", whole[:len(whole) // 2], model.read_bytes()):
        engine.write_bytes(content)
        assert "cannot load it" in refusal(engine)
