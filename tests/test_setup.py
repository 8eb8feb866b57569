"""scripts/setup.sh: what it installs, leaves alone and refuses, with a pip that only notes its calls."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, done, one_error

PIP = """
import json, os, pathlib, sys
with open(os.environ["PIP_CALLS"], "a") as file:
    constraint = os.environ.get("PIP_CONSTRAINT")
    file.write(json.dumps([sys.argv[1:], pathlib.Path(constraint).read_text() if constraint else None]) + "\\n")
if sys.argv[1] == "list":
    print("numpy==1.26.4")
sys.exit("+cpu" in sys.argv[-1])  # an index without builds for the CPU
"""


class Project:
    """A folder with the scripts and requirements of its own, and modules that Python finds before the real ones."""

    def __init__(self, folder: Path):
        self.folder, self.modules = folder, folder / "modules"
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        self.module("pip", "__main__", PIP)

    def module(self, package: str, name: str, text: str) -> None:
        (self.modules / package).mkdir(parents=True, exist_ok=True)
        (self.modules / package / f"{name}.py").write_text(text)
        (self.modules / package / "__init__.py").touch()

    def version(self, name: str, version: str) -> None:
        folder = self.modules / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def set_up(self, *requirements: str, active: bool = True, **options) -> subprocess.CompletedProcess:
        (self.folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
        env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(self.modules),
               "PIP_CALLS": str(self.folder / "calls"), **({"VIRTUAL_ENV": "active"} if active else {})}
        return subprocess.run(["bash", "scripts/setup.sh"], cwd=self.folder, env=env, capture_output=True, text=True,
                              timeout=60, **options)

    @property
    def calls(self) -> list:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture()
def project(tmp_path) -> Project:
    return Project(tmp_path / "project")


def test_nothing_is_installed_where_nothing_is_missing(project):
    assert done(project.set_up("numpy>=1.23", "PyYAML>=6.0  # yaml", "# a comment")) == ""
    assert project.calls == []


def test_only_what_is_missing_is_installed_and_the_rest_keeps_its_version(project):
    output = done(project.set_up("numpy>=1.23", "not-to-be-found>=2,<3", "opencv-python-headless>=4.5.5,<5"))
    assert "lacks: not-to-be-found>=2,<3" in output
    assert project.calls[1:] == [[["install", "-q", "not-to-be-found>=2,<3"], "numpy==1.26.4\n"]]


def test_files_of_requirements_may_name_others(project):
    (project.folder / "more.txt").write_text("not-to-be-found>=2\n")
    done(project.set_up("-r more.txt"))
    assert project.calls[-1][0][-1] == "not-to-be-found>=2"


def test_what_two_files_name_is_installed_once(project):
    for name in ("more", "other"):
        (project.folder / f"{name}.txt").write_text("not_there_at_all>=1\n")
    done(project.set_up("-r more.txt", "-r other.txt"))
    installed = [call[0][2:] for call in project.calls if call[0][0] == "install"]
    assert installed[-1].count("not_there_at_all>=1") == 1, installed


def test_an_older_torch_is_used_and_said(project):
    project.module("torch", "nothing", "")
    project.version("torch", "2.5.1+cu124")
    finished = project.set_up("torch==2.13.0")
    done(finished)
    assert "note: torch 2.5.1+cu124 is used as it is; tested is 2.13.0" in finished.stderr and project.calls == []


def test_the_size_of_cuda_is_said_before_it_comes(project):
    """Where pip has no build for the CPU."""
    (project.modules / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None")  # it is not here
    output = done(project.set_up("torch==2.13.0"))
    assert "5.0 GB" in output and "PIP_EXTRA_INDEX_URL" in output
    assert [call[0][-1] for call in project.calls[1:3]] == ["torch==2.13.0+cpu", "torch==2.13.0"]


def test_opencv_5_is_refused_with_the_command(project):
    project.module("cv2", "nothing", "")
    (project.modules / "cv2" / "__init__.py").write_text("__version__ = '5.0.0'")
    project.version("opencv_python", "5.0.0.93")
    error = one_error(project.set_up("opencv-python-headless>=4.5.5,<5"))
    assert "opencv-python is 5.0.0, expected >=4.5.5,<5" in error
    assert error.endswith("-m pip install 'opencv-python>=4.5.5,<5'") and project.calls == []


def test_pycocotools_of_another_numpy_is_refused_with_the_command(project):
    project.module("pycocotools", "mask", "raise ValueError('numpy.dtype size changed')")
    project.version("pycocotools", "2.0.7")
    error = one_error(project.set_up("pycocotools>=2.0.6"))
    assert "does not go with numpy" in error and "--force-reinstall --no-deps" in error and project.calls == []


def test_an_installation_that_was_interrupted_is_done_again(project):
    """Half a package can be imported."""
    (project.folder / ".venv" / "bin").mkdir(parents=True)
    (project.folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (project.folder / ".venv" / "unfinished").write_text("numpy>=1.23\n")
    done(project.set_up("numpy>=1.23", active=False))
    assert project.calls[-1][0] == ["install", "-q", "--force-reinstall", "numpy>=1.23"]
    assert not (project.folder / ".venv" / "unfinished").exists()


def set_up_where_python3_is_old(project, newer: str) -> subprocess.CompletedProcess:
    """`newer` is what the other names of Python on PATH do."""
    programs = project.folder / "bin"
    programs.mkdir()
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        does = "case $1 in -V) echo Python 3.7.5;; *) exit 1;; esac" if name == "python3" else newer
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    (project.folder / "requirements.txt").touch()
    return subprocess.run(["bash", "scripts/setup.sh"], cwd=project.folder, env={"PATH": f"{programs}:/usr/bin:/bin"},
                          capture_output=True, text=True, timeout=60)


def test_an_old_python_is_refused_with_both_ways(project):
    error = one_error(set_up_where_python3_is_old(project, "exit 1"))
    assert "Python 3.7.5, expected 3.10 or newer" in error and "python3.11" in error and "pack.py" in error
    assert not (project.folder / ".venv").exists()


def test_a_newer_python_beside_the_old_one_makes_the_environment(project):
    assert "with python3.12" in done(set_up_where_python3_is_old(project, f'exec {sys.executable} "$@"'))
    assert (project.folder / ".venv" / "bin" / "python").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who may not write here")
def test_a_folder_that_cannot_be_written_to_is_not_a_missing_venv():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        project = Project(Path(folder) / "project")
        (project.folder / "requirements.txt").touch()
        finished = subprocess.run(["bash", "scripts/setup.sh"], cwd=project.folder, env={"PATH": "/usr/bin:/bin"},
                                  capture_output=True, text=True, user=65534, timeout=60)
    error = one_error(finished)
    assert "cannot be written to" in error and "python3-venv" not in error


def test_a_command_runs_where_the_user_is_and_cdpath_leads_nowhere_else(project, tmp_path):
    (project.folder / "requirements.txt").touch()
    (tmp_path / "elsewhere" / "scripts").mkdir(parents=True)
    env = {**os.environ, "VIRTUAL_ENV": "active", "CDPATH": str(tmp_path / "elsewhere"), "PWD": str(project.folder)}
    finished = subprocess.run(["bash", "scripts/setup.sh", "-c", "import os; print(os.getcwd())"], cwd=project.folder,
                              env=env, capture_output=True, text=True, timeout=60)
    assert done(finished) == f"{project.folder}\n"


def test_shell_scripts_keep_their_line_ends_on_windows():
    scripts = [path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts").glob("*.sh")]
    attributes = subprocess.run(["git", "check-attr", "eol", *scripts], cwd=ROOT, capture_output=True, text=True)
    if attributes.returncode:
        pytest.skip("this is no git checkout")
    assert len(scripts) >= 12 and all(line.endswith("eol: lf") for line in attributes.stdout.splitlines())


@pytest.mark.parametrize("script", ["run_bs1.sh", "run_bs16.sh", "run_all_batches.sh", "validate.sh", "run_trt.sh"])
def test_help_prints_one_usage_and_needs_no_package(script, tmp_path):
    """Before anything is installed: -S hides the packages."""
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    finished = subprocess.run(["bash", f"scripts/{script}", "--help"], cwd=ROOT, capture_output=True, text=True,
                              env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, timeout=60)
    assert done(finished).count("usage:") == 1 and "--precision_mode" in finished.stdout
