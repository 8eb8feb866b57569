"""bench.py: what it times, and that no ratio is printed of outputs that differ."""
from __future__ import annotations

import hashlib
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, done, one_error, patch_model
from detection_cases import random_weights, tiny_cfg

from bench import AGAIN, Run, check_round, complete_batches, interleave, plot, published_rates, reference_of, summarize
from comparison.folders import agree, measure_folders
from comparison.gates import GATES
from contract.errors import UserError
from contract.room import gate_of
from contract.spec import load_spec
from detection.bins import write_letterboxed
from detection.darknet import read_cfg, write_weights
from detection.letterbox import letterbox, network_input
from pose.crops import read_photograph
from pose.spec import PoseSpec

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of the same name that agree, one of them for batches of 4, and one with other weights."""
    folder = tmp_path_factory.mktemp("bench")
    patch_model(folder / "any.onnx")
    patch_model(folder / "static_bs4.onnx", batch=4)
    patch_model(folder / "other.onnx", seed=1)
    return folder


def run_bench(script, models, prepared, small_cfg, output, *runs: str, bins=None):
    pytest.importorskip("matplotlib")
    arguments = [argument for run in runs for argument in ("--run", run)]
    return script("bench.py", *arguments, "--batch", 4, "--people", 6, "--repeat", 2, "--cfg", small_cfg, "--input",
                  bins or prepared / "prep_data", "--output", output)


def test_times_every_run_and_compares_outputs_first(script, models, prepared, small_cfg, tmp_path):
    done(run_bench(script, models, prepared, small_cfg, tmp_path / "out", f"onnxruntime:{models}/any.onnx",
                   f"onnxruntime:{models}/static_bs{{batch}}.onnx", f"onnxruntime:{models}/other.onnx:cpu"))
    report = json.loads((tmp_path / "out" / "bench.json").read_text())
    names = [row["label"].replace("onnxruntime ", "") for row in report["rows"]]
    assert names == ["any", "static", "cpu other"]
    assert [bool(row["ratio"]) for row in report["rows"]] == [True, True, False]
    first, same, other = report["rows"]
    assert first["difference"]["largest"] == 0 and same["difference"]["largest"] < 1e-6
    assert other["difference"]["largest"] > 0.1
    assert report["people"] == 4 and all(row["rows_per_second"]["lowest"] > 0 for row in report["rows"])
    header, _, *lines = (tmp_path / "out" / "bench.md").read_text().splitlines()[2:]
    ratios = [line.split("|")[1:-1][header.split("|")[1:-1].index(" ratio ")].strip() for line in lines]
    assert ratios[0].startswith("1.00 (1.00 - 1.00)") and ratios[2] == "outputs differ"
    assert 0 < same["ratio"]["lowest"] <= same["ratio"]["median"] <= same["ratio"]["highest"]
    assert ratios[1].startswith(f"{same['ratio']['median']:.2f} (")
    assert (tmp_path / "out" / "bench.png").stat().st_size > 10_000
    assert "published" not in (tmp_path / "out" / "bench.svg").read_text()  # this network's YAML has no such figures


def test_without_data_the_values_are_random(script, models, small_cfg, tmp_path):
    pytest.importorskip("matplotlib")
    done(script("bench.py", "--run", f"onnxruntime:{models}/any.onnx", "--run", f"onnxruntime:{models}/other.onnx",
                "--random", "--batch", 4, "--people", 6, "--repeat", 1, "--cfg", small_cfg, "--output", tmp_path))
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["people"] == 4 and [row["difference"]["largest"] > 0.1 for row in report["rows"]] == [False, True]


def test_published_rates_are_those_of_the_networks_yaml():
    rates = published_rates(load_spec(ROOT / "configs" / "256x192_res50_lr1e-3_1x.yaml").published, "crops/s")
    assert rates["Ascend310P"][16] == 1772.40 and rates["tensorrt on Tesla T4"][1] == 671.14
    assert rates["Ascend310"] == {1: 330.596, 16: 642.756}


@pytest.mark.parametrize("rows, people, batch, bins", [
    ([1] * 10, 6, 4, 4), ([2] * 5, 8, 4, 4), ([2] * 5, 7, 4, 2), ([2, 2, 2, 1], 128, 4, 2), ([3, 3, 3, 3], 12, 4, 4),
    ([4, 1], 128, 5, 2), ([2], 128, 4, 0)])
def test_people_are_counted_and_not_bins(rows, people, batch, bins):
    """Of bins of several people, the first ones that fill every batch."""
    assert complete_batches(rows, people, batch) == bins


def test_bins_of_two_people_are_timed_as_two(script, models, small_cfg, coco, tmp_path):
    done(script("preprocess.py", "--dataroot", coco, "--cfg", small_cfg, "--gt_boxes", "--batch", 2, "--output",
                tmp_path / "bins", "--output_flip", tmp_path / "bins_flip"))
    finished = run_bench(script, models, None, small_cfg, tmp_path / "out", f"onnxruntime:{models}/any.onnx",
                         bins=tmp_path / "bins")
    done(finished)
    report = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert report["people"] == 4


RUNS = [Run(backend, "model.onnx", None, batch) for batch in (1, 4) for backend in ("first", "second")]


def test_rounds_are_interleaved_and_every_other_goes_backwards():
    order = interleave(RUNS, 3)
    assert order[:4] == RUNS and order[4:8] == RUNS[::-1] and order[8:] == RUNS
    assert reference_of(RUNS[3], RUNS) == RUNS[2] and reference_of(RUNS[1], RUNS) == RUNS[0]


FOUR = SimpleNamespace(outputs={"output": (4,)}, levels=("tensors",))  # a model of four numbers


def rounds_of(*milliseconds: list) -> list:
    return [{"npu_compute_time_list": times, "end_to_end": {"people_per_second": 1}, "peak_mib": 1,
             "settings": {"precision": "fp32"}, "record": {"machines": [], "crops": 1, "of": 1}}
            for times in milliseconds]


def test_a_ratio_is_taken_within_each_round(tmp_path):
    """The machine slows down by half from round to round; what was twice as fast in each is twice as fast."""
    base = rounds_of([8, 10, 12], [20, 20, 20], [40, 39, 41])
    faster = rounds_of([5, 4, 6], [10, 10, 90], [20, 20, 25])
    for run in RUNS[2:]:
        (tmp_path / run.dumps).mkdir()
        np.ones(4, np.float32).tofile(tmp_path / run.dumps / "a.bin")
    row = summarize(RUNS[3], faster, base, tmp_path, RUNS[2], FOUR)
    assert row["ratio"] == {"median": 2.0, "lowest": 2.0, "highest": 2.0}
    assert row["rows_per_second"] == {"median": 400.0, "lowest": 200.0, "highest": 800.0}
    uneven = summarize(RUNS[3], rounds_of([5], [16], [20]), base, tmp_path, RUNS[2], FOUR)["ratio"]
    assert uneven == {"median": 2.0, "lowest": 1.25, "highest": 2.0}
    np.full(4, 1.1, np.float32).tofile(tmp_path / RUNS[3].dumps / "a.bin")
    assert summarize(RUNS[3], faster, base, tmp_path, RUNS[2], FOUR)["ratio"] is None


@pytest.mark.parametrize("noise, refused", [(0.0, False), (1e-6, False), (0.05, True)])
def test_a_round_that_timed_other_outputs_than_those_compared_is_refused(tmp_path, noise, refused):
    """A device may round differently from time to time; a cache, or a model of its own, for later rounds may not be."""
    run, values = RUNS[0], np.random.default_rng(0).standard_normal(4).astype(np.float32)
    for name, content in ((run.dumps, values), (f"{run.dumps}{AGAIN}", values * np.float32(1 + noise))):
        (tmp_path / name).mkdir()
        content.tofile(tmp_path / name / "a_0.bin")
    digest = hashlib.sha256((tmp_path / f"{run.dumps}{AGAIN}" / "a_0.bin").read_bytes()).hexdigest()
    again = {"settings": {"precision": "fp32"}, "record": {"files": 1, "samples": [
        {"dump": "a_0.bin", "input": "", "output": digest}]}}
    check_round(run, tmp_path, [again], FOUR)  # the first is what the others are compared with
    if refused:
        with pytest.raises(UserError, match="at batch 1: round 2 gave other outputs than the first"):
            check_round(run, tmp_path, [again, again], FOUR)
    else:
        check_round(run, tmp_path, [again, again], FOUR)


def test_a_run_that_fails_is_named(script, models, prepared, small_cfg, tmp_path):
    finished = run_bench(script, models, prepared, small_cfg, tmp_path / "out", f"onnxruntime:{models}/none.onnx")
    assert "onnxruntime none at batch 4" in one_error(finished) and not (tmp_path / "out").exists()


def test_a_run_without_a_model_is_refused(script, models, prepared, small_cfg, tmp_path):
    finished = run_bench(script, models, prepared, small_cfg, tmp_path, "onnxruntime")
    assert "expected BACKEND:MODEL" in one_error(finished)


def test_flags_of_a_run_are_infers(script, models, prepared, small_cfg, tmp_path):
    """The one run that differs is refused by the room that lacks its flag, which proves that it arrived there."""
    finished = run_bench(script, models, prepared, small_cfg, tmp_path / "out", f"onnxruntime:{models}/any.onnx",
                         f"onnxruntime:{models}/any.onnx:cpu --precision fp16")
    assert "onnxruntime cpu precision fp16 any at batch 4: --precision: the onnxruntime backend" in one_error(finished)


@pytest.fixture(scope="module")
def detector(tmp_path_factory, coco):
    """A small darknet network with its cfg, and letterboxed bins of the photographs of `coco`."""
    folder = tmp_path_factory.mktemp("detector")
    (folder / "net.cfg").write_text(tiny_cfg(classes=1))
    network = read_cfg(folder / "net.cfg")
    write_weights(folder / "net.weights", network, random_weights(network))
    write_letterboxed(coco / "val2017", folder / "bins", network, limit=2)
    return folder


def test_bins_hold_what_the_detector_sees(detector, coco):
    network = read_cfg(detector / "net.cfg")
    assert sorted(path.name for path in (detector / "bins").iterdir()) == ["000000000003.bin", "000000000014.bin"]
    for path in (detector / "bins").iterdir():
        image = read_photograph(coco / "val2017" / f"{path.stem}.jpg")
        expected = network_input(letterbox(image, (network.width, network.height)))
        assert path.read_bytes() == expected.tobytes()


def test_detectors_are_timed_on_letterboxed_bins(script, detector, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    weights = f"pytorch:{detector / 'net.weights'}"
    done(script("bench.py", "--run", weights, "--run", f"{weights}:cpu --precision fp16", "--batch", 1, 2, "--people",
                2, "--repeat", 1, "--cfg", detector / "net.cfg", "--input", detector / "bins", "--output", tmp_path))
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["unit"] == "photos" and "photos/s in the model" in (tmp_path / "bench.md").read_text()
    assert [row["gate"] for row in report["rows"]] == ["fp32", "fp16"] * 2
    assert all(row["ratio"] and "argmax" not in row["difference"] for row in report["rows"])
    assert report["rows"][1]["difference"]["largest"] > 0


@pytest.mark.parametrize("precisions, gate", [
    (["fp32"], "fp32"), (["fp32", "fp16"], "fp16"), (["bf16", "fp32"], "fp16"), (["int8", "fp16"], "int8"),
    (["mixed", "fp32"], "fp16"), (["unknown", "fp32"], "fp16")])
def test_the_gate_is_that_of_the_lowest_precision(precisions, gate):
    assert gate_of(precisions) == gate


@pytest.mark.parametrize("relative, gates", [(1e-5, {"fp32", "fp16", "int8"}), (2e-3, {"fp16", "int8"}),
                                             (2e-2, {"int8"}), (0.5, set())])
def test_what_each_gate_lets_pass(tmp_path, relative, gates):
    """Values from 0 to 1 with a peak of 1.2 in each heatmap, and noise as a share of that."""
    rng = np.random.default_rng(0)
    reference = rng.uniform(0, 1, (4, 17, 16, 12)).astype(np.float32)
    reference[:, :, 8, 6] = 1.2
    noisy = (reference + 1.2 * relative * rng.uniform(-1, 1, reference.shape)).astype(np.float32)
    for name, values in (("a", reference), ("b", noisy)):
        (tmp_path / name).mkdir()
        for number, row in enumerate(values):
            row.tofile(tmp_path / name / f"{number}_0.bin")
    spec = PoseSpec(heatmap_size=(16, 12))
    measured = {gate: measure_folders(tmp_path / "b", tmp_path / "a", spec, gate) for gate in GATES}
    assert {gate for gate in GATES if agree(measured[gate], gate)} == gates
    assert measured["fp16"]["largest"] == pytest.approx(np.abs(noisy - reference).max() / reference.max(), rel=1e-5)
    assert measured["fp16"]["argmax"] == (noisy.reshape(4 * 17, -1).argmax(1) == 8 * 12 + 6).mean()


def test_the_plot_has_its_batches_as_ticks_and_says_what_was_timed(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{"label": "onnxruntime net", "batch": batch, "milliseconds": {"median": batch, "p90": 2 * batch, "p99": 9},
             "rows_per_second": {"median": 100, "lowest": 90, "highest": 120}} for batch in (1, 4, 64)]
    plot({"rows": rows, "unit": "crops", "people": 128, "rounds": 5, "machine": {"cpu": "A CPU"}}, (), tmp_path)
    drawn = (tmp_path / "bench.svg").read_text()  # matplotlib leaves each text as a comment
    assert "<!-- A CPU, 128 crops, 5 rounds -->" in drawn and "published" not in drawn
    assert {"<!-- 100 -->", "<!-- 10 -->"} < {*re.findall("<!-- [^>]* -->", drawn)} and "mathdefault" not in drawn
    assert all(drawn.count(f"<!-- {batch} -->") >= 2 for batch in (1, 4, 64)) and "<!-- 16 -->" not in drawn
