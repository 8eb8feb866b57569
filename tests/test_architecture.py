"""docs/architecture.md: its recipes, added to a copy of the project as they stand there, and what they then do."""
from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, done, dumps_in, write_config

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = re.compile(r"(?<!of )`([\w/]+\.py)`:\n\n((?:    .*\n|\n)+)")
LINES = re.compile(r"^In `(\w+)` of `([\w/]+\.py)`[^:]*:\n\n    (.*)\n", re.MULTILINE)
MAKE_WEIGHTS = """
import sys
import numpy, torch
from contract.spec import load_spec
from networks.registry import build_network

torch.manual_seed(0)
network = build_network(load_spec(sys.argv[1]))
torch.save(network.state_dict(), sys.argv[2] + ".pth")
numpy.savez(sys.argv[2] + ".npz", weights=network[0].weight.detach(), bias=network[0].bias.detach())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> SimpleNamespace:
    """A copy of the project with the three recipes in it, and a way to run its commands."""
    root = tmp_path_factory.mktemp("project")
    for name in ("backends", "ascend", "comparison", "configs", "contract", "detection", "networks", "pose", "reid"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ROOT.glob("*.py"):
        shutil.copy(script, root)
    for path, code in FILES.findall(PAGE):
        assert not (root / path).exists()
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(textwrap.dedent(code))
    for table, path, line in LINES.findall(PAGE):
        add_line(root / path, table, line)

    def run(*command: object) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, *map(str, command)], cwd=root, capture_output=True, text=True)

    return SimpleNamespace(root=root, run=run)


def add_line(path: Path, table: str, line: str) -> None:
    """An entry at the head of a dictionary; of a module that the file imports, its name beside the others'."""
    text, count = re.subn(rf"^({table}\b[^=\n]*= \{{)", rf"\1{line} ", path.read_text(), flags=re.MULTILINE)
    assert count == 1, path
    if path.name == "__init__.py":
        text = re.sub(r"^(from comparison.levels import .*)$", r"\1, toy", text, flags=re.MULTILINE)
    path.write_text(text)


@pytest.fixture(scope="module")
def toy(project, prepared, tmp_path_factory) -> SimpleNamespace:
    """The toy network's config, its weights for each backend, and the dumps of each."""
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("toy")
    cfg = write_config(folder / "toy.yaml", model="TYPE: Toy, STEP: 4")
    done(project.run("-c", MAKE_WEIGHTS, cfg, folder / "toy"))
    done(project.run("pth2onnx.py", cfg, folder / "toy.pth", folder / "toy.onnx"))
    for suffix in ("pth", "onnx", "npz"):
        done(project.run("infer.py", "--model", folder / f"toy.{suffix}", "--cfg", cfg, "--input",
                         prepared / "prep_data", "--output", folder, "--output_dirname", suffix))
    return SimpleNamespace(folder=folder, manifest=prepared / "prep_data" / "manifest.json")


def test_each_recipe_is_a_file_or_folder_and_a_line():
    assert [path for path, _ in FILES.findall(PAGE)] == [
        "networks/toy.py", "backends/toy/__init__.py", "backends/toy/options.py", "backends/toy/backend.py",
        "comparison/levels/toy.py"]
    assert [table for table, _, _ in LINES.findall(PAGE)] == ["NETWORKS", "ROOMS", "LEVELS"]


def test_the_network_and_the_backend_compute_the_same(toy):
    """A convolution by torch, by ONNX Runtime and by the toy room's numpy."""
    shape = (17, 16, 12)
    expected = dumps_in(toy.folder / "npz", shape)
    assert np.abs(expected).max() > 0.01
    for other in ("pth", "onnx"):
        np.testing.assert_allclose(dumps_in(toy.folder / other, shape), expected, rtol=0, atol=1e-5)


def test_the_level_is_measured_and_judged(project, toy):
    reference = toy.folder / "pth"
    agrees = done(project.run("compare.py", reference, toy.folder / "npz", "--manifest", toy.manifest))
    assert re.search(r"\| toy +\| mean \|.*\| yes \|", agrees)
    for path in (toy.folder / "onnx").glob("*_0.bin"):
        (np.fromfile(path, np.float32) + 1).tofile(path)
    differs = project.run("compare.py", reference, toy.folder / "onnx", "--manifest", toy.manifest)
    assert differs.returncode == 1 and re.search(r"\| toy +\| mean \|.*\| NO \|", differs.stdout)
