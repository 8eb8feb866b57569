"""What tests share: the repository's root, reference data outside it, a script runner, small inputs."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden data and real photographs, which are not part of the repository."""
    folder = Path(os.environ.get("POSE_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"golden data is not at {folder} (set POSE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def script():
    """Run a script of the root as its user does; returns the finished process, its output as text."""

    def run(name: str, *args: object, **options) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / name), *map(str, args)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **options)

    return run
