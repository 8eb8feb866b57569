"""Benchmarks of int8: a row for each file; NNCF and OpenVINO where this Python has them, msModelSlim by hand."""
from __future__ import annotations

import importlib.util
import sys

import pytest
from conftest import done
from layers_cases import save, small_graph

pytest.importorskip("onnxruntime")


def test_each_file_has_its_row(prepared, coco, script, tmp_path):
    model, bins = save(small_graph(), tmp_path / "small.onnx"), prepared / "prep_data"
    others = ("--nncf", sys.executable) if importlib.util.find_spec("nncf") else ()
    output = done(script("benchmarks/int8_others.py", model, "--input", bins, "--validation", bins, "--dataroot", coco,
                         "--rounds", 1, "--runs", 1, *others))
    rows = [line.split(" | ") for line in output.splitlines() if line.startswith("| ")][2:]
    here = [("| float32", "all", "ONNX Runtime"), ("| quantize.py", "0 of 6", "ONNX Runtime"),
            ("| quantize.py --target ascend", "0 of 6", "emulated card")]
    assert [row for row in map(tuple, (row[:3] for row in rows)) if row[2] != "OpenVINO"] == here
    assert len(rows) == len(here) + (4 if others else 0)
    assert [float(row[3]) for row in rows if row[0] == "| float32"] == [1.0] * (2 if others else 1)
    assert all(0.99 < float(row[3]) <= 1 for row in rows)


def test_each_runtime_has_its_rows_and_the_layers_add_up(script, tmp_path):
    model = save(small_graph(), tmp_path / "small.onnx")
    lines = done(script("benchmarks/int8_speed.py", model, "--rounds", 1, "--runs", 1, "--batch", 2)).splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines
            if line.startswith("| ") and "---" not in line]
    assert [row[0] for row in rows if row[1] == "onnxruntime"] == \
        ["all", "none (0)", "first (1)", "first, last, upsampled (2)"]
    assert rows[1][4] == "1.00 (1.00 .. 1.00)" and rows[1][6] == "1.00"
    layers = rows[next(place for place, row in enumerate(rows) if row[0] == "layer") + 1:]
    *each, total = layers[:1 + next(place for place, row in enumerate(layers) if row[0].startswith("all "))]
    assert total[0] == "all 6 layers"
    assert abs(sum(float(row[3]) for row in each) - float(total[3])) < 0.01 * len(each)
