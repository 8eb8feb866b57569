"""An engine that trtexec alone builds and runs, on an emulated machine without NVIDIA's Python packages."""
from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from ascend_cases import run
from conftest import SMALL_HEATMAP, SMALL_INPUT, bins_in, done, dumps_in, one_error, patch_heatmaps, patch_model

from tests.tensorrt_emulator import environment

BATCH = 5  # 12 people make batches of 5, 5 and 2
TENSOR = (3, *SMALL_INPUT)


@pytest.fixture()
def model(tmp_path) -> Path:
    return patch_model(tmp_path / "m.onnx", BATCH)


def build(model: Path, env: dict) -> Path:
    done(run(env, "-m", "backends.tensorrt.build", model, "--trtexec", "run", "--output", model.with_suffix(".engine")))
    return model.with_suffix(".engine")


def infer(engine: Path, bins: Path, env: dict, *options: object):
    return run(env, "-m", "backends.tensorrt.trtexec_run", "--model", engine, "--input", bins, "--output",
               engine.parent / "results", "--output_dirname", "trtexec", *options)


@pytest.mark.parametrize("version", ["8.6.1", "11.4.0"])
def test_dumps_are_those_of_the_network(prepared, model, version):
    """To six digits. 11 copies nothing unless it is asked to; a run that is stopped continues."""
    env, bins, results = environment(trtexec=True, tensorrt=version), prepared / "prep_data", model.parent / "results"
    engine = build(model, env)
    assert "model alone" in done(infer(engine, bins, env, "--batchsize", BATCH))
    came, expected = dumps_in(results / "trtexec", (17, *SMALL_HEATMAP)), patch_heatmaps(bins_in(bins, TENSOR))
    assert np.allclose(came, expected, rtol=1e-5, atol=1e-7)
    settings = json.loads((results / "trtexec" / "settings.json").read_text())
    assert (settings["tensorrt"], settings["precision"], settings["emulated"]) == (version, "fp32", True)
    before = {path.name: path.stat().st_mtime_ns for path in results.glob("trtexec/*.bin")}
    os.remove(results / "trtexec" / "000000000011_0.bin")
    assert ", 2 in " in done(infer(engine, bins, env))
    assert {name for name, when in before.items() if (results / "trtexec" / name).stat().st_mtime_ns != when} == \
        {"000000000010_0.bin", "000000000011_0.bin"}
    assert not (results / "trtexec.trtexec").exists()


def test_what_cannot_be_run(prepared, model, tmp_path):
    env, bins = environment(trtexec=True), prepared / "prep_data"
    engine = build(model, env)
    for options, config, hint in ((["--batchsize", 4], {}, "takes batches of 5, but --batchsize is 4"),
                                  (["--device", 1], {}, "nvidia-smi -L lists no GPU 1"),
                                  ([], {"tensorrt": "10.4.0"}, "built by TensorRT 10.3.0"),
                                  ([], {"errors": [{"call": "trtexec", "message": "out of memory"}]}, "out of memory")):
        assert hint in one_error(infer(engine, bins, environment(trtexec=True, **config), *options))
    os.remove(f"{engine}.json")
    assert "Build the engine again" in one_error(infer(engine, bins, env))
    env["PATH"] = str(tmp_path)
    assert "trtexec is not on PATH" in one_error(infer(engine, bins, env))


def test_the_check_needs_no_python_package():
    assert "trtexec of TensorRT 10.3.0, NVIDIA" in done(run(environment(trtexec=True), "-m", "backends.tensorrt.check",
                                                            "--trtexec"))
    for config, options, hint in (({"devices": 0}, [], "lists no GPU 0"), ({}, ["--device", "0,1"], "on one GPU"),
                                  ({"tensorrt": "11.4.0"}, [], "only from a graph in float16")):
        error = one_error(run(environment(trtexec=True, **config), "-m", "backends.tensorrt.check", "--trtexec",
                              *options))
        assert hint in error
