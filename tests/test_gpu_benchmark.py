"""benchmarks/gpu.py, as far as a machine without a GPU can tell."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, one_error, write_config

from backends.rooms import open_model
from benchmarks import gpu
from pose.spec import PoseSpec, load_spec

torch = pytest.importorskip("torch")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_without_a_gpu_it_is_one_line(script):
    finished = script("benchmarks/gpu.py")
    assert "finds none" in one_error(finished) and finished.stdout == ""


def test_a_person_is_as_many_operations_as_the_reference_says(shared):
    assert "11.77 G" in (shared / "reference" / "tensorrt.md").read_text()
    assert gpu.flops_of(PoseSpec()) == pytest.approx(11.77e9, rel=1e-3)


def test_the_limits_are_those_asked_for():
    rng = np.random.default_rng(0)
    reference = rng.uniform(0, 1, (6, 17, 16, 12)).astype(np.float32)
    for noise, share in ((0, True), (9e-4, None), (2e-3, False)):
        measured = gpu.compare((reference + noise * rng.uniform(-1, 1, reference.shape)).astype(np.float32), reference)
        assert measured["max_abs"] <= noise + 1e-6 and (noise or measured["argmax"] == measured["cosine"] == 1)
        if share is not None:
            assert gpu.kept(measured, gpu.LIMITS["fp32"]) == share
    even = reference.copy()
    even[0, 0, :2, 0] = 2, 1.992  # a peak between two cells; rounding may turn them round
    turned = even.copy()
    turned[0, 0, :2, 0] = 1.992, 2
    measured = gpu.compare(turned, even)
    assert measured["argmax"] == 1 - 1 / 102 and measured["lower"] == pytest.approx(0.004, abs=1e-6)
    assert gpu.kept(measured, gpu.LIMITS["fp16"]) and not gpu.kept(measured, gpu.LIMITS["fp32"])
    moved = np.roll(reference, 1, axis=3)
    assert gpu.compare(moved, reference)["argmax"] < 0.1 and not gpu.kept(gpu.compare(moved, reference),
                                                                         gpu.LIMITS["fp16"])


class Timed:
    """A backend of the CPU that says what one on CUDA would: 2 ms a row."""

    def __init__(self, name, model, config, device=None, precision="fp32", cuda_graph=None, one_pass=None):
        flags = {"one_pass": one_pass} if one_pass else {}
        self.backend, self.times = open_model(name, model, config, device, precision=precision, **flags), []
        self.input_shape, self.close, self.graph = self.backend.input_shape, self.backend.close, cuda_graph

    def infer(self, rows):
        self.times.append(2.0 * len(rows))
        return self.backend.infer(rows)

    def describe(self):
        return {"cuda_graph": self.graph}


@pytest.fixture()
def stand_in(monkeypatch):
    """torch.cuda, as far as the benchmark asks it; a matrix product takes 1 ms."""
    empty = torch.empty
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None, elapsed_time=lambda _: 1.0)
    for name, value in (("is_available", lambda: True), ("get_device_name", lambda: "GPU"),
                        ("Event", lambda enable_timing: event)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **options: empty(*shape, **options))
    for name, value in (("DEVICE", "cpu"), ("MATRIX_SIZES", (8, 16)), ("COPY_BYTES", 1 << 10),
                        ("open_model", Timed), ("DEMO_PHOTOS", 3)):
        monkeypatch.setattr(gpu, name, value)


def rows_of(output: str) -> list:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in output.splitlines() if line.startswith("|")]


def test_the_tables_on_a_stand_in(stand_in, main, tmp_path):
    """2 ms per crop are 500 crops per second at any batch. A person is two crops, or one row of a one-pass model."""
    from networks.registry import build_network

    cfg = write_config(tmp_path / "small.yaml", (64, 32), (16, 8), "TYPE: FastPose, NUM_LAYERS: 50, WIDTH: 0.05")
    torch.save(build_network(load_spec(cfg)).state_dict(), tmp_path / "model.pth")
    (tmp_path / "bins").mkdir()
    for number, crop in enumerate(np.random.default_rng(0).uniform(-0.5, 0.6, (8, 3, 64, 32)).astype(np.float32)):
        crop.tofile(tmp_path / "bins" / f"{number:012d}.bin")
    finished = main("benchmarks.gpu", "--model", tmp_path / "model.pth", "--cfg", cfg, "--input", tmp_path / "bins",
                    "--batch", 1, 4, "--repeat", 2, "--people", 6, "--output", tmp_path / "gpu.md")
    output = finished.stdout
    assert finished.returncode == (3 if "NOT KEPT" in output else 0), finished.stderr
    rows = rows_of(output)
    assert [row[0] for row in rows[2:5]] == ["fp32", "fp16", "bf16"] and rows[2][1] == "0.00e+00"
    assert rows[2][5].endswith("argmax >= 1: kept")
    speeds, one_pass = rows[7:19], rows[21:]
    assert [tuple(row[:3]) for row in speeds] == [(precision, graph, batch) for precision in ("fp32", "fp16", "bf16")
                                                 for graph in ("no", "yes") for batch in ("1", "4")]
    allowed = 2 * 16 ** 3 / 1e-3 / gpu.flops_of(load_spec(cfg))
    assert all(row[4] == "500" and row[5] == f"{allowed:.0f}" for row in speeds)
    assert [row[:2] + [row[3]] for row in one_pass] == [["1", "250", "500"], ["4", "250", "500"]]
    assert "% is asked: kept" in output and "6 crops" in output
    assert (tmp_path / "gpu.md").read_text().splitlines() == output.splitlines()


def test_it_needs_no_files_and_tells_a_missed_goal_by_its_exit_code(stand_in, monkeypatch, main, tmp_path):
    """Its own photos and checkpoint; with a matrix product that is too good for the network to reach half of it."""
    monkeypatch.setattr(gpu, "FULL", PoseSpec(parameters={**PoseSpec().parameters, "WIDTH": 0.05}))
    monkeypatch.setattr(gpu, "MATRIX_SIZES", (512,))
    monkeypatch.setattr(gpu, "seconds_on_gpu", lambda work, repeat=10: 1e-6)
    finished = main("benchmarks.gpu", "--batch", 1, "--repeat", 1, "--people", 2, "--output", tmp_path / "gpu.md")
    assert finished.returncode == 3 and "is asked: NOT KEPT" in (tmp_path / "gpu.md").read_text()
    assert "2 rendered people" in finished.stdout


def test_the_demos_network_is_that_of_its_config():
    assert load_spec(ROOT / "configs" / "demo_fastpose.yaml").parameters["WIDTH"] == gpu.DEMO_WIDTH
