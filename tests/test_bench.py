"""bench.py: what it times, and that no ratio is printed of outputs that differ."""
from __future__ import annotations

import json

import pytest
from conftest import done, one_error, patch_model

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of the same name that agree, one of them for batches of 4, and one with other weights."""
    folder = tmp_path_factory.mktemp("bench")
    patch_model(folder / "any.onnx")
    patch_model(folder / "static_bs4.onnx", batch=4)
    patch_model(folder / "other.onnx", seed=1)
    return folder


def run_bench(script, models, prepared, small_cfg, output, *runs: str):
    pytest.importorskip("matplotlib")
    arguments = [argument for run in runs for argument in ("--run", run)]
    return script("bench.py", *arguments, "--batch", 4, "--people", 6, "--repeat", 2, "--cfg", small_cfg, "--input",
                  prepared / "prep_data", "--output", output)


def test_times_every_run_and_compares_outputs_first(script, models, prepared, small_cfg, tmp_path):
    done(run_bench(script, models, prepared, small_cfg, tmp_path / "out", f"onnxruntime:{models}/any.onnx",
                   f"onnxruntime:{models}/static_bs{{batch}}.onnx", f"onnxruntime:{models}/other.onnx:cpu"))
    report = json.loads((tmp_path / "out" / "bench.json").read_text())
    first, same, other = report["rows"]
    names = [row["label"].replace("onnxruntime ", "") for row in report["rows"]]
    assert names == ["any", "static", "cpu other"]
    assert first["difference"] == 0 and same["difference"] < 1e-6 and other["difference"] > 0.1
    assert report["people"] == 6 and all(row["crops_per_second"]["lowest"] > 0 for row in report["rows"])
    header, _, *lines = (tmp_path / "out" / "bench.md").read_text().splitlines()[2:]
    ratios = [line.split("|")[1:-1][header.split("|")[1:-1].index(" ratio ")].strip() for line in lines]
    assert ratios[0] == "1.00" and float(ratios[1]) > 0 and ratios[2] == "outputs differ"
    assert (tmp_path / "out" / "bench.png").stat().st_size > 10_000
    assert "published" in (tmp_path / "out" / "bench.svg").read_text()


def test_a_run_that_fails_is_named(script, models, prepared, small_cfg, tmp_path):
    finished = run_bench(script, models, prepared, small_cfg, tmp_path / "out", f"onnxruntime:{models}/none.onnx")
    assert "onnxruntime none at batch 4" in one_error(finished) and not (tmp_path / "out").exists()


def test_a_run_without_a_model_is_refused(script, models, prepared, small_cfg, tmp_path):
    finished = run_bench(script, models, prepared, small_cfg, tmp_path, "onnxruntime")
    assert "expected BACKEND:MODEL" in one_error(finished)
