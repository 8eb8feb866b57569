"""backends.tensorrt.build on the emulated TensorRT: bad input, failures of each call, and a process that is killed."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, done, one_error, patch_model
from tensorrt_build_cases import VERSIONS, builder, rewritten
from tensorrt_cases import typed_model

from tests.tensorrt_emulator import environment


@pytest.fixture()
def build(main):
    return builder(main)


@pytest.fixture()
def model(tmp_path) -> Path:
    return patch_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("options, hint", [
    ([], "--profile 1,16,64"), (["--batch", "0"], "--batch is 0"), (["--profile", "8,4,1"], "ascending"),
    (["--profile", "1,8"], "such as 1,16,64"), (["--profile", "0,1,2"], "ascending")])
def test_batches_that_make_no_engine(build, model, options, hint):
    assert hint in one_error(build(model, *options))


def test_a_static_onnx_of_another_batch(build, tmp_path):
    model = patch_model(tmp_path / "m_bs4.onnx", 4)
    assert "its batch is 4, but --batch is 2" in one_error(build(model, "--batch", 2))
    assert "without _bs" in one_error(build(model, "--profile", "1,2,4"))


def test_files_that_are_no_onnx(build, model, tmp_path):
    halves = typed_model(tmp_path / "h.onnx", "FLOAT16")
    assert "takes FLOAT16, expected FLOAT or UINT8" in one_error(build(halves, "--batch", 2))
    model.write_bytes(model.read_bytes()[:100])
    assert "damaged" in one_error(build(model, "--batch", 2))
    assert "no such" in one_error(build(tmp_path / "x.onnx", "--batch", 2))
    two = rewritten(patch_model(tmp_path / "two.onnx"), lambda content, onnx: content.graph.input.append(
        onnx.helper.make_tensor_value_info("other", 1, [1])))
    assert "expected one input, got image, other" in one_error(build(two, "--batch", 2))


def test_an_operator_that_tensorrt_does_not_have(build, model):
    rewritten(model, lambda content, onnx: setattr(content.graph.node[0], "op_type", "CustomConv"))
    rewritten(model, lambda content, onnx: setattr(content.graph.node[0], "domain", "somebody"))
    rewritten(model, lambda content, onnx: content.opset_import.append(onnx.helper.make_opsetid("somebody", 1)))
    message = one_error(build(model, "--batch", 2))
    assert str(model) in message and "No importer registered for op: CustomConv" in message


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("call, words", [
    ("OnnxParser.parse_from_file", "cannot take"), ("Builder.create_builder_config", "cannot make a network"),
    ("IBuilderConfig.add_optimization_profile", "refuses the profile (2, 2, 2)"),
    ("IBuilderConfig.create_timing_cache", "refuses the timing cache"),
    ("IBuilderConfig.set_timing_cache", "refuses the timing cache"),
    ("Builder.build_serialized_network", "cannot build this network"),
    ("Runtime.deserialize_cuda_engine", "cannot read the engine"), ("Runtime", "gives no runtime"),
    ("cudaSetDevice", "failed with cudaErrorUnknown"), ("cudaGetDeviceProperties", "failed with cudaErrorUnknown")])
def test_every_failure_is_one_line_and_leaves_nothing(build, model, tmp_path, version, call, words):
    fault = {"call": call, "message": "Error Code 4: of this test", "code": 999}
    message = one_error(build(model, "--batch", 2, "--timing_cache", tmp_path / "cache", tensorrt=version,
                              errors=[fault]))
    assert words in message and ("Error Code 4: of this test" in message or call.startswith("cuda"))
    assert os.listdir(tmp_path) == ["m.onnx"]


WARNINGS = ["Missing scale and zero-point for tensor conv1, expect fall back to non-int8 implementation",
            "onnx2trt_utils.cpp: Your ONNX model has been generated with INT64 weights"]


def test_warnings_reach_a_log_and_those_of_int8_the_user(build, model, tmp_path):
    output = build(model, "--batch", 2, warnings=[*WARNINGS, WARNINGS[0]])
    done(output)
    log = tmp_path / "m_bs2_fp32.engine.log"
    assert log.read_text().splitlines() == [f"warning: {text}" for text in WARNINGS]
    assert f"TensorRT gave 2 warnings, 1 of them about int8: {log}" in output.stderr
    assert WARNINGS[0] in output.stderr and WARNINGS[1] not in output.stderr
    done(build(model, "--batch", 2, "--tf32"))
    assert not log.exists()  # it was of another engine


def test_a_failed_build_leaves_no_engine_of_an_earlier_one(build, model, tmp_path):
    done(build(model, "--batch", 2))
    one_error(build(model, "--batch", 2, "--tf32", errors=[{"call": "Builder.build_serialized_network"}]))
    assert not list(tmp_path.glob("*.engine*"))


def test_the_gate_comes_before_any_object_of_tensorrt(build, model):
    """A Runtime can be made where there is no CUDA, and ends the process when it is used."""
    finished = build(model, "--batch", 2, devices=0)
    assert "cudaErrorInsufficientDriver (35)" in one_error(finished)
    assert not [call for call in finished.counts if "." in call]
    assert "libcuda.so.1" in one_error(build(model, "--batch", 2, devices=0, libcuda=False, layout="old"))


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "backends.tensorrt.build", *map(str, arguments)], cwd=ROOT,
                          capture_output=True, text=True, timeout=60, **options)


def site(folder: Path, source: str) -> dict:
    """The environment of an emulated machine where this is run first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(source)
    env = environment()
    return {**env, "PYTHONPATH": f"{folder}{os.pathsep}{env['PYTHONPATH']}"}


@pytest.mark.parametrize("package, name", [("cuda", "cuda-python"), ("tensorrt", "tensorrt")])
def test_without_its_packages_it_is_one_line(model, tmp_path, package, name):
    env = site(tmp_path / "site", f"import sys\nsys.modules[{package!r}] = None\n")
    assert f"the Python package {name}, which cannot be imported" in one_error(run(model, "--batch", 2, env=env))


@pytest.mark.parametrize("module", ["build", "calibration_table", "trtexec"])
def test_help_needs_nothing(module):
    source = (f"import sys, backends.tensorrt.{module} as stage\n"
              "assert not {'onnx', 'onnxruntime', 'torch', 'tensorrt', 'cuda'} & set(sys.modules)\n"
              "stage.parse_args(['--help'])")
    assert "usage: " in done(subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_killed_in_the_middle_it_leaves_nothing(model, tmp_path, number):
    """While TensorRT builds, in one long call, for which Python's own handler of Ctrl-C would wait."""
    env = site(tmp_path / "slow", "import hashlib, tensorrt\ntensorrt.Builder.build_serialized_network = lambda *_: "
               "(print('building', flush=True), hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30))\n")
    process = subprocess.Popen([sys.executable, "-m", "backends.tensorrt.build", str(model), "--batch", "2"], cwd=ROOT,
                               env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while "building" != process.stdout.readline().strip():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(30) == -number
    process.stdout.close()
    left = {"m.onnx.lock", "m_bs2_fp32.engine.lock"}  # the next run takes them over
    assert set(os.listdir(tmp_path)) - left == {"m.onnx", "slow"}
