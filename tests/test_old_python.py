"""contract/ and ascend/ on the Python 3.7 and numpy 1.16 that an old server with an Ascend card has."""
from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import Optional

import pytest
from conftest import ROOT

SOURCES = sorted(path for room in ("contract", "ascend") for path in (ROOT / room).glob("*.py"))
# Names and keywords of Python 3.8 and later that are easily written without noticing.
LATER = {"cached_property", "prod", "removeprefix", "removesuffix", "is_relative_to", "waitstatus_to_exitcode",
         "BooleanOptionalAction", "metadata", "cancel_futures", "missing_ok", "dirs_exist_ok"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python37() -> Optional[str]:
    """A Python 3.7 that runs: pyenv's stand-in for one that is not chosen ends with an error."""
    candidates = ["python3.7"]
    try:
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
        candidates += sorted(map(str, Path(root).glob("versions/3.7.*/bin/python3")))
    except (OSError, subprocess.CalledProcessError):
        pass
    for candidate in candidates:
        try:
            if subprocess.run([candidate, "-V"], capture_output=True).returncode == 0:
                return candidate
        except OSError:
            continue
    return None


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


def test_they_are_imported_by_python_3_7():
    python = python37()
    if python is None:
        pytest.skip("no Python 3.7 runs here, neither python3.7 nor one of pyenv's")
    if subprocess.run([python, "-c", "import numpy, tqdm"], capture_output=True).returncode:
        pytest.skip(f"{python} has no numpy and tqdm: {python} -m pip install 'numpy<1.17' tqdm")
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES if path.stem != "__init__"]
    program = "import importlib, sys\nfor module in sys.argv[1:]: importlib.import_module(module)"
    done = subprocess.run([python, "-c", program, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
