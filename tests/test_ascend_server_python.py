"""The whole job on a server whose own Python is old: the project's .venv beside it, not activated."""
from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, done
from server_python import TQDM

from tests.emulator import environment

NOT_COPIED = shutil.ignore_patterns(".*", "runs", "data", "tests", "docs", "__pycache__")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy with the environment that scripts/setup.sh makes."""
    folder = Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "project", ignore=NOT_COPIED))
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def run_script(project: Path, python: Path, target: str, *options: str, **machine: object):
    env = environment(python=python, **machine)
    env.pop("VIRTUAL_ENV", None)
    command = ["bash", "scripts/run_bs16.sh", target, "--demo", "--limit", "6", "--work", "work", *options]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def of_the_cpu(project) -> bytes:
    done(run_script(project, Path(sys.executable), "cpu"))
    return keypoints(project, "cpu")


def keypoints(project: Path, target: str) -> bytes:
    return (project / "work" / "results" / f"{target}_bs16_score" / "keypoints.json").read_bytes()


@pytest.mark.parametrize("version, ais_bench, cann, target", [("3.7", "old", "6.0.RC1", "Ascend310P3"),
                                                              ("3.9", "new", "8.0.0", "Ascend310"),
                                                              ("3.7", None, "7.0.0", "Ascend310P3")])
def test_the_job_finishes_with_the_keypoints_of_the_cpu(project, of_the_cpu, server_python, version, ais_bench, cann,
                                                        target):
    python = server_python(version, *([TQDM] if ais_bench else []))
    done(run_script(project, python, target, ais_bench=ais_bench, cann=cann, soc=target))
    assert keypoints(project, target) == of_the_cpu
