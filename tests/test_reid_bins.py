"""Features by way of bins and dumps: through ais_bench, infer.py and trtexec, equal to the network's own."""
from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from ascend_cases import run
from conftest import ROOT, done, one_error, run_onnx
from test_reid_extract import CAMERAS, PEOPLE, expected, features, made  # noqa: F401

from tests.emulator import environment

COUNT = PEOPLE * CAMERAS


@pytest.fixture()
def write_bins(made, main, tmp_path):  # noqa: F811
    def call(*more: object):
        return main("reid.extract", "--input", made.images, "--config-file", made.cfg, "--bins", tmp_path / "prep",
                    *more)

    return call


@pytest.fixture()
def from_dumps(main, tmp_path):
    def call(dumps, *more: object):
        return main("reid.extract", "--bins", tmp_path / "prep", "--dumps", dumps, "--output", tmp_path / "features",
                    *more)

    return call


def assert_right(made, folder) -> None:  # noqa: F811
    names = sorted(path.stem for path in made.images.iterdir())
    assert sorted(path.stem for path in folder.glob("*.npy")) == names
    np.testing.assert_allclose(features(folder), expected(made), rtol=0, atol=1e-5)
    assert list(json.loads((folder / "features.json").read_text())["images"]) == names


def test_ais_bench(made, write_bins, from_dumps, main, tmp_path):  # noqa: F811
    assert "10 people, 10 bins written" in done(write_bins())
    env, om = environment(), tmp_path / "small.om"
    done(run(env, "-m", "ascend.atc", made.folder / "small_bs4.onnx", "--output", om, "--soc_version", "Ascend310P3"))
    done(run(env, "-m", "ascend.ais_bench", "--model", om, "--input", tmp_path / "prep", "--output", tmp_path,
             "--output_dirname", "dumps"))
    done(from_dumps(tmp_path / "dumps"))
    assert_right(made, tmp_path / "features")
    record = json.loads((tmp_path / "features" / "features.json").read_text())
    assert record["backend"] == "ais_bench" and record["normalised"] and record["geometry"] == "pil"
    done(main("reid.extract", "--model", made.onnx, "--config-file", made.cfg, "--input", made.images, "--output",
              tmp_path / "onnx"))
    assert "agrees with" in done(main("reid.check", tmp_path / "onnx", tmp_path / "features", "--gate", "fp32"))


def test_infer_py_and_a_run_that_was_stopped(made, write_bins, from_dumps, main, tmp_path):  # noqa: F811
    done(write_bins("--batch-size", 4))
    (tmp_path / "prep" / "000000000001.bin").unlink()
    assert "10 people, 1 bins written" in done(write_bins("--batch-size", 4))
    assert "geometry" in one_error(write_bins("--batch-size", 4, "--resize", "cv2"))

    def infer() -> None:
        done(main("infer", "--model", made.onnx, "--input", tmp_path / "prep", "--output", tmp_path,
                  "--output_dirname", "dumps", "--replace"))

    infer()
    done(from_dumps(tmp_path / "dumps"))
    assert_right(made, tmp_path / "features")
    next((tmp_path / "features").glob("*.npy")).unlink()
    assert "9 kept" in done(from_dumps(tmp_path / "dumps"))
    assert_right(made, tmp_path / "features")
    done(write_bins("--resize", "cv2", "--replace"))
    infer()
    assert 'now "cv2"' in one_error(from_dumps(tmp_path / "dumps"))
    done(from_dumps(tmp_path / "dumps", "--replace"))
    np.testing.assert_allclose(features(tmp_path / "features"), expected(made, "cv2"), rtol=0, atol=1e-5)


def test_trtexec(made, write_bins, from_dumps, main, tmp_path):  # noqa: F811
    """--loadInputs takes a bin of the batch, and --exportOutput is turned into its dump."""
    done(write_bins("--batch-size", COUNT))
    rows = np.fromfile(tmp_path / "prep" / "000000000000.bin", np.float32).reshape(COUNT, 3, 64, 32)
    values = run_onnx(made.onnx, rows)
    (tmp_path / "out.json").write_text(json.dumps([{"name": "output", "dimensions": f"{COUNT}x256",
                                                    "values": values.ravel().tolist()}]))
    line = f"TensorRT.trtexec [TensorRT v101300] # trtexec --shapes=image:{COUNT}x3x64x32"
    (tmp_path / "log").write_text(f"&&&& RUNNING {line}\n[11/28/2026-10:00:00] [I] Throughput: 50 qps\n"
                                  f"&&&& PASSED {line}\n")
    done(main("backends.tensorrt.trtexec", tmp_path / "log", "--output", tmp_path / "out.json", "--dump",
              tmp_path / "dumps" / "000000000000_0.bin"))
    done(from_dumps(tmp_path / "dumps"))
    assert_right(made, tmp_path / "features")


@pytest.mark.parametrize("fault, says", [("dumps alone", "expected --model, --input and --output"),
                                         ("other images", "not of the bins beside it"), ("missing", "1 of 10 dumps"),
                                         ("no bins", "no such manifest")])
def test_bad_input_is_one_line(made, write_bins, from_dumps, tmp_path, fault, says):  # noqa: F811
    if fault == "dumps alone":
        finished = subprocess.run([sys.executable, "-m", "reid.extract", "--dumps", "d", "--output", "o"], cwd=ROOT,
                                  capture_output=True, text=True)
        assert finished.returncode == 2 and says in finished.stderr
        return
    (tmp_path / "dumps").mkdir()
    if fault != "no bins":
        done(write_bins())
        for number in range(COUNT):
            np.ones(256, np.float32).tofile(tmp_path / "dumps" / f"{number:012d}_0.bin")
    if fault == "other images":
        (tmp_path / "prep" / "images.json").write_text("{}")
    elif fault == "missing":
        (tmp_path / "dumps" / "000000000003_0.bin").unlink()
    assert says in one_error(from_dumps(tmp_path / "dumps"))
    assert not list((tmp_path / "features").glob("*.npy"))
