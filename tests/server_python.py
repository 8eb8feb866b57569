"""The Python of a server: an old one with a numpy of its time and nothing else, made once and kept in pytest's cache.

The fixture `server_python` of conftest.py gives it to tests: server_python("3.7") is the path of its python3, and
server_python("3.7", TQDM) of one that has tqdm too, which the wheel of ais_bench brings.
"""
from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Tuple

import pytest

NUMPY = {"3.7": "numpy<1.17", "3.9": "numpy<1.25"}  # the oldest that ascend/ works with; what CANN 8.0 allows
TQDM = "tqdm<4.66"  # later ones need more packages on 3.7, which pip does not see from another Python
ONNXRUNTIME = "onnxruntime<1.17"  # works with that numpy, and brings no package onnx


def _candidates(version: str) -> Iterator[str]:
    yield f"python{version}"
    try:
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return
    yield from sorted(map(str, Path(root).glob(f"versions/{version}.*/bin/python3")))


def interpreter(version: str) -> str:
    """A Python that runs, which pyenv's stand-in for one that is not chosen does not; skips where there is none."""
    for candidate in _candidates(version):
        try:
            if subprocess.run([candidate, "-V"], capture_output=True).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip(f"no Python {version} runs here, neither python{version} nor one of pyenv's")


def make(version: str, packages: Tuple[str, ...], cache: Path) -> Path:
    """Its bin/python3, in an environment in the folder `cache`; skips where it cannot be made."""
    wanted = (NUMPY[version], *packages)
    folder = cache / re.sub(r"[^\w.]+", "_", " ".join([version, *wanted]))
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests may be making it
        if not folder.exists():
            _fill(version, wanted, folder)
    return folder / "bin" / "python3"


def _fill(version: str, packages: Tuple[str, ...], folder: Path) -> None:
    partial = folder.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    place = partial / "lib" / f"python{version}" / "site-packages"
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    for command in ([interpreter(version), "-m", "venv", "--without-pip", partial],
                    [sys.executable, *pip, "--python-version", version, "--target", place, *packages]):
        finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if finished.returncode:
            reason = (finished.stderr or finished.stdout).strip().splitlines() or ["no reason given"]
            pytest.skip(f"no environment of Python {version} with {', '.join(packages)}: {reason[-1]}")
    os.rename(partial, folder)  # python3 is a link, and finds its packages by where it is
