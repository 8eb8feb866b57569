"""The small ReID network that comes with the project: people whom it has not seen are told apart, files to figures."""
from __future__ import annotations

import json

import pytest
from conftest import ROOT, done

pytest.importorskip("torch")
pytest.importorskip("onnxsim")

CONFIG, CHECKPOINT = ROOT / "configs" / "demo_reid.yaml", ROOT / "demo" / "reid_small.pth"
PEOPLE = 12
LEAST = 0.85  # 1 here, and 0.94 of 50 people


def test_its_size():
    assert CHECKPOINT.stat().st_size < 2e6


def test_people_are_told_apart(main, tmp_path):
    done(main("demo.identities", "--output", tmp_path / "people", "--people", PEOPLE))
    done(main("reid.export", "--config-file", CONFIG, "--checkpoint", CHECKPOINT, "--output", tmp_path / "small"))
    for side, folder in (("query", "query"), ("gallery", "bounding_box_test")):
        done(main("reid.extract", "--config-file", CONFIG, "--model", tmp_path / "small.onnx", "--input",
                  tmp_path / "people" / folder, "--output", tmp_path / side))
    done(main("reid.evaluate", "--query", tmp_path / "query", "--gallery", tmp_path / "gallery", "--config-file",
              CONFIG, "--json", tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["valid"] == 3 * PEOPLE and figures["figures"]["Rank-1"][0] >= LEAST
