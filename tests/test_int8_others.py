"""benchmarks/int8_others.py: each file's row. NNCF's are there where this Python has it; msModelSlim runs by hand."""
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
