"""trtexec as the builder: its command line by version, and a stand-in for it that is run."""
from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import done, one_error, patch_model
from tensorrt_build_cases import builder, half, record_of

from backends.tensorrt.build import parse_args
from backends.tensorrt.precision import abilities_of_version, choose_recipe
from backends.tensorrt.source import Source
from backends.tensorrt.trtexec_build import build_command
from contract.errors import UserError

DYNAMIC = Source("image", (None, 3, 256, 192), "float32", False, False)
STATIC = DYNAMIC._replace(shape=(16, 3, 256, 192))
QDQ = STATIC._replace(quantized=True)
TIMED = "--useCudaGraph --useSpinWait --noDataTransfers"
END = "--warmUp=500 --duration=10"
SHAPES = "--minShapes=image:1x3x256x192 --optShapes=image:16x3x256x192 --maxShapes=image:64x3x256x192"
CALIBRATED = ("--minShapesCalib=image:16x3x256x192 --optShapesCalib=image:16x3x256x192 "
              "--maxShapesCalib=image:16x3x256x192")


@pytest.mark.parametrize("version, source, options, expected", [
    ((8, 6, 1), STATIC, "", f"--noTF32 {TIMED}"),
    ((10, 3, 0), DYNAMIC, "--precision fp16 --workspace 4096", f"{SHAPES} --fp16 --memPoolSize=workspace:4096 --noTF32 "
     f"{TIMED}"),
    ((11, 4, 0), DYNAMIC, "--tf32 --optimization_level 5 --timing_cache t.cache",
     f"{SHAPES} --timingCacheFile=t.cache --builderOptimizationLevel=5"),
    ((8, 6, 1), QDQ, "--precision int8", f"--int8 --fp16 --noTF32 {TIMED}"),
    ((10, 16, 1), QDQ, "--precision int8", f"--stronglyTyped --noTF32 {TIMED}"),
    ((11, 0, 0), QDQ, "--precision int8", "--noTF32"),
    ((10, 0, 1), DYNAMIC, "--precision int8", f"{SHAPES} {CALIBRATED} --int8 --fp16 --calib=CalibrationTable --noTF32 "
     f"{TIMED}")])
def test_command_lines(version, source, options, expected):
    args = parse_args(["m.onnx", *options.split()])
    recipe = choose_recipe(Path("m.onnx"), source, args.precision, abilities_of_version(version))
    command = build_command(version, Path("m.onnx"), Path("m.engine"), source, (1, 16, 64), recipe,
                            Path("CalibrationTable"), args)
    assert " ".join(command) == f"trtexec --onnx=m.onnx --saveEngine=m.engine {expected} {END}"


def test_a_trtexec_that_is_too_old():
    recipe = choose_recipe(Path("m.onnx"), STATIC, "fp32", abilities_of_version((8, 5, 3)))
    with pytest.raises(UserError, match="8.5.3, expected 8.6.0"):
        build_command((8, 5, 3), Path("m"), Path("m"), STATIC, (1, 1, 1), recipe, None, parse_args(["m"]))


# Says what the real one says, and no more; MODE is what goes wrong.
TRTEXEC = """#!/bin/sh
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # $*"
for argument; do case "$argument" in --saveEngine=*) engine="${{argument#--saveEngine=}}";; esac; done
[ "$1" = --help ] && exit 0
[ "{mode}" = "no engine" ] || echo a plan >"$engine"
echo "[11/21/2026-10:11:12] [I] Throughput: 65.5 qps"
[ "{mode}" = "says nothing" ] && exit 0
[ "{mode}" = "fails" ] && echo "[11/21/2026-10:11:12] [E] [TRT] of this test" && echo "&&&& FAILED" && exit 0
echo "&&&& PASSED TensorRT.trtexec [TensorRT v{version}] # $*"
exit 3
"""


@pytest.fixture()
def model(tmp_path) -> Path:
    return patch_model(tmp_path / "m.onnx")


@pytest.fixture()
def build(main, model, tmp_path, monkeypatch):
    """Build on TensorRT 10.3.0 with --trtexec; `mode` None is a machine without it."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    (tmp_path / "bin").mkdir()

    def run(*options: object, how: str = "run", mode: str = "", version: int = 100300, **config: object):
        program = tmp_path / "bin" / "trtexec"
        program.write_text(TRTEXEC.format(mode=mode, version=version))
        program.chmod(0o755)
        if mode is None:
            program.unlink()
        return builder(main)(model, "--batch", 2, "--trtexec", how, *options, **config)

    return run


def test_trtexec_builds_and_times(build, tmp_path):
    """Whatever its exit code: the log says that it passed."""
    output = done(build("--precision", "fp16"))
    engine = tmp_path / "m_bs2_fp16.engine"
    assert engine.read_text() == "a plan\n" and engine.stat().st_mode & 0o777 == 0o640
    assert "| m_bs2_fp16.engine | 10.3.0 | 2 | 131.0 |" in output  # 65.5 queries of 2 people
    assert "Throughput" in (tmp_path / "m_bs2_fp16.build" / "trtexec.log").read_text()
    assert record_of(engine)["builder_flags"] == ["FP16"] and record_of(engine)["profile"] == [2, 2, 2]
    assert ": kept" in done(build("--precision", "fp16"))


@pytest.mark.parametrize("mode, words", [("fails", "of this test"), ("says nothing", "did not print PASSED"),
                                         ("no engine", "left no"), (None, "not on PATH")])
def test_a_run_that_did_not_pass_leaves_no_engine(build, tmp_path, mode, words):
    assert words in one_error(build(mode=mode))
    assert not list(tmp_path.glob("*.engine*"))


def test_a_trtexec_of_another_tensorrt(build, tmp_path):
    done(build())
    assert "trtexec on PATH belongs to TensorRT 8.6.1" in one_error(build("--tf32", version=8601))
    assert (tmp_path / "m_bs2_fp32.engine").exists()


def test_trtexec_never_calibrates_on_noise(build, tmp_path):
    """Which is what the real one does with a --calib that is not there."""
    table = tmp_path / "table"
    options = ("--precision", "int8", "--calibration_table", table)
    for how in ("print", "run"):
        assert "no such CalibrationTable" in one_error(build(*options, how=how))
        table.write_text("TRT-100300-MinMaxCalibration\nimage: 3c008912\n")
        assert "EntropyCalibration2" in one_error(build(*options, how=how))
        table.write_text("TRT-8601-EntropyCalibration2\nimage: 3c008912\n")
        assert "this build is of 10.3.0" in one_error(build(*options, how=how))
        table.write_text("TRT-100300-EntropyCalibration2\nimage: 3c008912\n")
        assert f"--calib={table}" in done(build(*options, how=how))
        table.unlink()


def test_commands_are_printed_without_a_gpu(build, model, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    printed = done(build(how="print", devices=0)).split()
    assert printed[:2] == ["trtexec", f"--onnx={model}"] and "--noTF32" in printed
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "trtexec") == before


def test_where_the_graph_says_the_precision_it_is_converted_first(build, model, tmp_path):
    lines = done(build("--precision", "fp16", how="print", version=110400)).splitlines()
    halves = tmp_path / "m.fp16.onnx"
    assert lines[0].startswith("python3 -m modelopt.onnx.autocast") and str(halves) in lines[0]
    assert lines[1].startswith(f"trtexec --onnx={halves} --saveEngine={tmp_path}/m_bs2_fp16.engine")
    half(model)
    assert "--stronglyTyped" in done(build("--precision", "fp16", how="print"))


def test_the_python_package_says_the_version_where_trtexec_is_not(build):
    assert "--useCudaGraph" in done(build(how="print", mode=None, tensorrt="8.6.1", devices=0))
    assert "--useCudaGraph" not in done(build(how="print", mode=None, tensorrt="11.4.0", devices=0))
