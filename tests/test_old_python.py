"""contract/, ascend/ and what a kit runs, on the Python 3.7 and numpy 1.16 that an old server has."""
from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from kit.packing import program_files

SOURCES = sorted({*(path for room in ("contract", "ascend") for path in (ROOT / room).glob("*.py")),
                  *program_files(["Ascend310P3", "gpu", "cpu"])})
# Names and keywords of Python 3.8 and later that are easily written without noticing.
LATER = {"cached_property", "prod", "removeprefix", "removesuffix", "is_relative_to", "waitstatus_to_exitcode",
         "BooleanOptionalAction", "metadata", "cancel_futures", "missing_ok", "dirs_exist_ok"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_sources_are_python_3_7(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))
    for node in ast.walk(tree):
        is_late = {getattr(node, "attr", None), getattr(node, "arg", None)} & LATER and \
            not ast.unparse(node).startswith("np.") or isinstance(node, ast.Attribute) and \
            ast.unparse(node) == "shlex.join" or isinstance(node, ast.alias) and node.name.split(".")[-1] in LATER
        assert not is_late, f"{name(path)}:{node.lineno}"


def test_protocols_are_for_type_checkers_alone():
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {id(node) for block in ast.walk(tree) if isinstance(block, ast.If) and
                   "TYPE_CHECKING" in ast.unparse(block.test) for node in ast.walk(block)}
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "typing" and
                   any(alias.name == "Protocol" for alias in node.names)]
        assert all(id(node) in guarded for node in imports), name(path)


@pytest.mark.parametrize("version", ["3.7", "3.9"])
def test_they_are_imported_where_there_is_numpy_and_nothing_else(server_python, version):
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES if path.stem != "__init__" and
               path != ROOT / "backends" / "onnxruntime" / "backend.py"]  # for a server that has ONNX Runtime
    program = "import importlib, sys\nfor module in sys.argv[1:]: importlib.import_module(module)"
    done = subprocess.run([server_python(version), "-c", program, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
