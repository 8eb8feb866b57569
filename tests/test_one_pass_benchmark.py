"""benchmarks/one_pass.py: every way from photos to a score, the bytes it moves, and which is named."""
from __future__ import annotations

import pytest
from conftest import write_config

from benchmarks import one_pass
from pose.spec import load_spec

torch = pytest.importorskip("torch")
pytest.importorskip("onnxsim")


def test_both_forms_are_scored_compared_and_weighed(coco, main, tmp_path):
    from networks.registry import build_network

    cfg = write_config(tmp_path / "narrow.yaml", (64, 32), (16, 8), "TYPE: FastPose, WIDTH: 0.05")
    torch.save(build_network(load_spec(cfg)).state_dict(), tmp_path / "narrow.pth")
    finished = main("benchmarks.one_pass", "--dataroot", coco, "--checkpoint", tmp_path / "narrow.pth", "--cfg", cfg,
                    "--targets", "cpu", "--precision", "fp32", "--repeat", 1, "--batch", 4, "--work", tmp_path / "work")
    assert finished.returncode == 0, finished.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in finished.stdout.splitlines()[2:4]]
    assert [row[:2] for row in rows] == [["cpu fp32", "two folders"], ["cpu fp32", "one pass"]]
    crop, heatmaps = 64 * 32 * 3, 17 * 16 * 8 * 4
    assert [int(row[4]) for row in rows] == [2 * (4 * crop + heatmaps), crop + 17 * 3 * 4]
    assert rows[0][6] == "-" and rows[1][6] in ("yes", "NO") and "the fastest that agrees: cpu fp32" in finished.stdout
    assert (tmp_path / "work" / "table.md").read_text() == finished.stdout


def test_ways_are_those_of_installed_targets():
    args = one_pass.parse_args(["--targets", "cpu", "pytorch", "--precision", "fp32"])
    ways = [(way.label, way.form) for way in one_pass.ways_of(args)]
    assert ways == [(f"{target} fp32", form) for target in ("cpu", "pytorch") for form in ("two folders", "one pass")]
