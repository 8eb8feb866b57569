"""bench.py: what it times, and that no ratio is printed of outputs that differ."""
from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import done, one_error, patch_model

from bench import Run, interleave, reference_of, summarize

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
    assert ratios[0] == "1.00 (1.00 - 1.00)" and ratios[2] == "outputs differ" and other["ratio"] is None
    assert 0 < same["ratio"]["lowest"] <= same["ratio"]["median"] <= same["ratio"]["highest"]
    assert ratios[1].startswith(f"{same['ratio']['median']:.2f} (")
    assert (tmp_path / "out" / "bench.png").stat().st_size > 10_000
    assert "published" in (tmp_path / "out" / "bench.svg").read_text()


RUNS = [Run(backend, "model.onnx", None, batch) for batch in (1, 4) for backend in ("first", "second")]


def test_rounds_are_interleaved_and_every_other_goes_backwards():
    order = interleave(RUNS, 3)
    assert order[:4] == RUNS and order[4:8] == RUNS[::-1] and order[8:] == RUNS
    assert reference_of(RUNS[3], RUNS) == RUNS[2] and reference_of(RUNS[1], RUNS) == RUNS[0]


def rounds_of(*milliseconds: list) -> list:
    return [{"npu_compute_time_list": times, "end_to_end": {"people_per_second": 1}, "peak_mib": 1, "settings": {}}
            for times in milliseconds]


def test_a_ratio_is_taken_within_each_round(tmp_path):
    """The machine slows down by half from round to round; what was twice as fast in each is twice as fast."""
    base = rounds_of([8, 10, 12], [20, 20, 20], [40, 39, 41])
    faster = rounds_of([5, 4, 6], [10, 10, 90], [20, 20, 25])
    for run in RUNS[2:]:
        (tmp_path / run.dumps).mkdir()
        np.ones(4, np.float32).tofile(tmp_path / run.dumps / "a.bin")
    row = summarize(RUNS[3], faster, base, tmp_path, RUNS[2])
    assert row["ratio"] == {"median": 2.0, "lowest": 2.0, "highest": 2.0}
    assert row["crops_per_second"] == {"median": 400.0, "lowest": 200.0, "highest": 800.0}
    uneven = summarize(RUNS[3], rounds_of([5], [16], [20]), base, tmp_path, RUNS[2])["ratio"]
    assert uneven == {"median": 2.0, "lowest": 1.25, "highest": 2.0}
    np.full(4, 1.1, np.float32).tofile(tmp_path / RUNS[3].dumps / "a.bin")
    assert summarize(RUNS[3], faster, base, tmp_path, RUNS[2])["ratio"] is None


def test_a_run_that_fails_is_named(script, models, prepared, small_cfg, tmp_path):
    finished = run_bench(script, models, prepared, small_cfg, tmp_path / "out", f"onnxruntime:{models}/none.onnx")
    assert "onnxruntime none at batch 4" in one_error(finished) and not (tmp_path / "out").exists()


def test_a_run_without_a_model_is_refused(script, models, prepared, small_cfg, tmp_path):
    finished = run_bench(script, models, prepared, small_cfg, tmp_path, "onnxruntime")
    assert "expected BACKEND:MODEL" in one_error(finished)
