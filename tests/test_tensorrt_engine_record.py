"""The record beside a plan, and plans that do not belong here."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import patch_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from tensorrt_cases import build_plan  # noqa: E402

from backends.tensorrt.backend import Backend  # noqa: E402
from contract.errors import UserError  # noqa: E402
from tests.tensorrt_emulator import emulated  # noqa: E402

COMMAND = "python3 -m backends.tensorrt.build models/m.onnx --precision fp16"


@pytest.fixture()
def model(tmp_path) -> Path:
    return patch_model(tmp_path / "m.onnx", 4)


def refusal(plan: Path, **machine: object) -> str:
    """What the backend says of a plan; it must not have given it to TensorRT where a record says enough."""
    with emulated(**machine) as here:
        with pytest.raises(UserError, match="^[^\n]*$") as caught:
            Backend(plan)
        text = str(caught.value)
        del caught
        assert here.state.leaks() == {}
        assert not here.counts["Runtime.deserialize_cuda_engine"] or not Path(f"{plan}.json").exists()
    assert str(plan) in text
    return text


def test_a_plan_of_this_machine_is_taken_and_described(tmp_path, model):
    plan = build_plan(model, tmp_path / "m.engine", record=COMMAND)
    with emulated() as machine:
        backend = Backend(plan)
        assert backend.describe() == {"device": machine.gpu, "precision": "fp32", "vendor_precision": "fp32",
                                      "tf32": False, "tensorrt": "10.3.0", "emulated": True}
        backend.close()
    record = json.loads(Path(f"{plan}.json").read_text())
    assert record["compute_capability"] == "8.0" and record["cuda_driver"] == "12.8"
    assert record["cuda_runtime"] == "12.9" and len(record["plan_sha256"]) == 64


@pytest.mark.parametrize("built, here, words", [
    ({"tensorrt": "8.6.1"}, {"tensorrt": "10.3.0"}, "built by TensorRT 8.6.1 .*but here TensorRT is 10.3.0"),
    ({"tensorrt": "10.3.0"}, {"tensorrt": "10.3.1"}, "built by TensorRT 10.3.0 .*but here TensorRT is 10.3.1"),
    ({"gpu": "Tesla T4", "compute_capability": (7, 5)}, {},
     r"for compute capability 7.5 \(Tesla T4\), but here compute capability is 8.0 \(NVIDIA A100-SXM4-40GB\)")])
def test_a_plan_of_another_machine_is_refused_with_the_command(tmp_path, model, built, here, words):
    text = refusal(build_plan(model, tmp_path / "m.engine", record=COMMAND, **built), **here)
    assert text.endswith(f"Build it here: {COMMAND}")
    with pytest.raises(UserError, match=words):
        raise UserError(text)


@pytest.mark.parametrize("built, words", [
    ({"tensorrt": "8.6.1"}, "expecting library version 10.3.0 got 8.6.1, please rebuild"),
    ({"compute_capability": (7, 5)}, "expecting compute 8.0 got compute 7.5, please rebuild")])
def test_without_a_record_tensorrt_is_asked_and_quoted(tmp_path, model, built, words):
    text = refusal(build_plan(model, tmp_path / "m.engine", **built))
    assert words in text and "python3 -m backends.tensorrt.build" in text


def test_another_gpu_of_the_same_architecture_is_let_through(tmp_path, model):
    plan = build_plan(model, tmp_path / "m.engine", record=COMMAND, gpu="NVIDIA A100-PCIE-80GB")
    with emulated():
        Backend(plan).close()


def test_a_record_of_another_plan_is_refused(tmp_path, model):
    plan = build_plan(model, tmp_path / "m.engine", record=COMMAND)
    plan.write_bytes(plan.read_bytes() + b" ")
    assert "is not the plan that" in refusal(plan) and COMMAND in refusal(plan)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"tensorrt": 10}', "no JSON"])
def test_a_damaged_record_is_refused(tmp_path, model, content):
    plan = build_plan(model, tmp_path / "m.engine")
    Path(f"{plan}.json").write_text(content)
    assert f"{plan}.json: expected" in refusal(plan)


def test_a_damaged_plan_is_refused(tmp_path, model):
    plan = build_plan(model, tmp_path / "m.engine")
    whole = plan.read_bytes()
    for content in (b"", b"no plan", whole[:len(whole) // 2], model.read_bytes()):
        plan.write_bytes(content)
        assert "cannot load it" in refusal(plan)
