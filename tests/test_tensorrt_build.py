"""backends.tensorrt.build on the emulated TensorRT: what is asked of each release, and what is kept."""
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from conftest import ROOT, done, one_error, patch_model
from detection_cases import narrow_spp_cfg, random_weights
from tensorrt_build_cases import VERSIONS, builder, half, plan_of, quantized, record_of
from tensorrt_cases import typed_model

from backends.tensorrt.backend import SLOTS, Backend
from detection.darknet import read_cfg
from detection.onnx_graph import build_onnx
from tests.tensorrt_emulator import emulated, load


@pytest.fixture()
def build(main):
    return builder(main)


@pytest.fixture()
def model(tmp_path) -> Path:
    return patch_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("version", VERSIONS)
def test_float32_is_float32(build, model, version):
    done(build(model, "--batch", 16, tensorrt=version))
    engine = model.parent / "m_bs16_fp32.engine"
    assert plan_of(engine)["flags"] == [] and plan_of(engine)["typed"] == (version == "11.4.0")
    assert plan_of(engine)["profiles"] == [{"image": [[16, 3, 64, 48]] * 3}]
    assert engine.stat().st_mode & 0o777 == 0o640
    record = record_of(engine)
    assert record["tf32"] is False and record["precision"] == "fp32" and record["profile"] == [16, 16, 16]
    assert record["onnx_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert record["engine_sha256"] == hashlib.sha256(engine.read_bytes()).hexdigest()
    assert record["tensorrt"] == version and record["gpu"] == "NVIDIA A100-SXM4-40GB"
    done(build(model, "--batch", 16, "--tf32", tensorrt=version))
    assert plan_of(engine)["flags"] == ["TF32"] and record_of(engine)["tf32"] is True


@pytest.mark.parametrize("precision, prepare, version, flags, typed", [
    ("fp16", None, "8.6.1", ["FP16"], False), ("fp16", None, "10.3.0", ["FP16"], False),
    ("fp16", half, "8.6.1", ["FP16"], False), ("fp16", half, "10.3.0", [], True), ("fp16", half, "11.4.0", [], True),
    ("int8", quantized, "8.6.1", ["FP16", "INT8"], False), ("int8", quantized, "10.3.0", [], True),
    ("int8", quantized, "11.4.0", [], True)])
def test_each_precision_is_asked_as_the_release_takes_it(build, model, precision, prepare, version, flags, typed):
    if prepare:
        prepare(model)
    done(build(model, "--batch", 2, "--precision", precision, tensorrt=version))
    engine = model.parent / f"m_bs2_{precision}.engine"
    assert plan_of(engine)["flags"] == flags and plan_of(engine)["typed"] is typed
    assert sorted(record_of(engine)["builder_flags"]) == flags and record_of(engine)["precision"] == precision


@pytest.mark.parametrize("precision, prepare, hint", [
    ("fp32", quantized, "--precision int8"), ("fp16", quantized, "--precision int8"),
    ("fp32", half, "--precision fp16")])
def test_a_graph_of_another_precision(build, model, precision, prepare, hint):
    assert hint in one_error(build(prepare(model), "--batch", 2, "--precision", precision))


def test_float16_by_the_graph_needs_modelopt(build, model, tmp_path):
    message = one_error(build(model, "--batch", 2, "--precision", "fp16", tensorrt="11.4.0"))
    command = (f"python3 -m modelopt.onnx.autocast --onnx_path {model} --output_path "
               f"{tmp_path}/m.fp16.onnx --low_precision_type fp16 --keep_io_types")
    assert command in message and list(tmp_path.iterdir()) == [model]


AUTOCAST = """
import argparse, shutil, sys
parser = argparse.ArgumentParser()
for flag in ("--onnx_path", "--output_path", "--low_precision_type"):
    parser.add_argument(flag, required=True)
parser.add_argument("--keep_io_types", action="store_true", required=True)
args = parser.parse_args()
assert args.low_precision_type == "fp16"
sys.path[:0] = [{tests!r}, {root!r}]
from tensorrt_build_cases import half
from pathlib import Path
half(Path(shutil.copy(args.onnx_path, args.output_path)))
sys.exit({code})
"""


@pytest.mark.parametrize("code", [0, 1])
def test_float16_by_the_graph(build, model, tmp_path, monkeypatch, code):
    """A stand-in for ModelOpt takes its flags; TensorRT gets what it wrote."""
    package = tmp_path / "site" / "modelopt" / "onnx"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "autocast.py").write_text(AUTOCAST.format(tests=str(ROOT / "tests"), root=str(ROOT), code=code))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    finished = build(model, "--batch", 2, "--precision", "fp16", tensorrt="11.4.0")
    engine = tmp_path / "m_bs2_fp16.engine"
    if code:
        assert "AutoCast ended with code 1" in one_error(finished) and not engine.exists()
        return
    done(finished)
    assert b"half" in engine.read_bytes() and b"half" not in model.read_bytes()
    assert record_of(engine)["autocast"] is True
    assert record_of(engine)["onnx_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_int8_without_a_calibrator_needs_the_graph(build, model):
    message = one_error(build(model, "--batch", 2, "--precision", "int8", tensorrt="11.4.0"))
    assert f"python3 quantize.py {model} --target tensorrt --input BINS" in message


@pytest.mark.parametrize("version", VERSIONS)
def test_a_profile_takes_a_range_of_batches(build, model, version):
    done(build(model, "--profile", "1,4,8", "--workspace", 64, "--optimization_level", 5, tensorrt=version))
    engine = model.parent / "m_bs1-8_fp32.engine"
    assert plan_of(engine)["profiles"] == [{"image": [[size, 3, 64, 48] for size in (1, 4, 8)]}]
    assert record_of(engine)["profile"] == [1, 4, 8]
    with emulated(tensorrt=version):
        backend = Backend(engine)
        assert backend.slots == SLOTS, "contexts must share the profile, which 8.6 is to be asked for"
        backend.close()


def test_a_static_onnx_needs_no_profile(build, tmp_path):
    model = patch_model(tmp_path / "m_bs4.onnx", 4)
    done(build(model))
    assert plan_of(tmp_path / "m_bs4_fp32.engine")["profiles"] == []


def test_the_detector_is_built_by_the_same_builder(build, tmp_path):
    (tmp_path / "narrow.cfg").write_text(narrow_spp_cfg())
    network = read_cfg(tmp_path / "narrow.cfg")
    detector = tmp_path / "yolov3-spp.onnx"
    detector.write_bytes(build_onnx(network, random_weights(network), None, 11).SerializeToString())
    done(build(detector, "--profile", "1,4,16", "--precision", "fp16"))
    assert plan_of(tmp_path / "yolov3-spp_bs1-16_fp16.engine")["profiles"] == [
        {"image": [[size, 3, 64, 96] for size in (1, 4, 16)]}]


def test_an_onnx_of_bytes_is_built_unchanged(build, tmp_path):
    model = typed_model(tmp_path / "bytes.onnx", "UINT8")
    done(build(model, "--batch", 2, "--output", tmp_path / "folder" / "x.engine"))
    plan, content = load("plan").read((tmp_path / "folder" / "x.engine").read_bytes())
    assert plan["profiles"] == [{"image": [[2, 64, 48, 3]] * 3}] and content == model.read_bytes()


def test_what_is_unchanged_is_kept(build, model, tmp_path):
    engine = tmp_path / "m_bs2_fp32.engine"
    done(build(model, "--batch", 2))
    assert ": kept" in done(build(model, "--batch", 2))
    assert ": kept" in done(build(model, "--batch", 2, "--output", engine, driver=13000))
    for change in ({"tensorrt": "10.3.1"}, {"gpu": "NVIDIA L4", "compute_capability": (8, 9)}):
        assert ": kept" not in done(build(model, "--batch", 2, **change))
    for options in (["--optimization_level", 1], ["--workspace", 512], ["--tf32"]):
        assert ": kept" not in done(build(model, "--batch", 2, *options))
        assert ": kept" in done(build(model, "--batch", 2, *options))
    engine.write_bytes(b"damaged")
    assert ": kept" not in done(build(model, "--batch", 2, "--tf32"))
    patch_model(model, seed=1)
    assert ": kept" not in done(build(model, "--batch", 2, "--tf32"))


def test_the_command_of_the_record_builds_it_again(build, model, tmp_path):
    done(build(model, "--batch", 2, "--tf32"))
    command = record_of(tmp_path / "m_bs2_fp32.engine")["command"].split()
    assert command[:3] == ["python3", "-m", "backends.tensorrt.build"]
    assert ": kept" in done(build(*command[3:]))


def test_the_timing_cache_is_kept(build, model, tmp_path):
    cache = tmp_path / "timing.cache"
    done(build(model, "--batch", 2, "--timing_cache", cache))
    first = cache.read_bytes()
    done(build(model, "--batch", 4, "--timing_cache", cache))
    assert cache.read_bytes().startswith(first) and len(cache.read_bytes()) > len(first)
    message = one_error(build(model, "--batch", 8, "--timing_cache", cache, gpu="NVIDIA L4"))
    assert str(cache) in message and "Name another" in message
