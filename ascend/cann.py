"""The CANN installation in use: where it is, its version, what it can work with, and the Python that its tools take."""
from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from contract.errors import UserError

Version = Tuple[int, ...]

PYTHON = "python3"  # on PATH: atc and ais_bench run with it, whichever Python this project runs with
# Any Python 3 must be able to run this. importlib.metadata came with 3.8, so folders of installed packages are read.
_PROBE = r"""
import importlib.util, json, os, re, sys

def place(name):
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:  # of google, for google.protobuf
        return None
    return spec and (list(spec.submodule_search_locations or []) or [spec.origin])[0]

def version(name):
    for folder in filter(os.path.isdir, sys.path):
        for entry in os.listdir(folder):
            match = re.match(name + r"-([^-]+)(-.*)?[.](dist-info|egg-info|egg)$", entry)
            if match:
                return match.group(1)

print(json.dumps({"executable": sys.executable, "version": sys.version_info[:3],
                  "modules": {name: place(name) for name in sys.argv[1:]},
                  "packages": {name: version(name) for name in ("numpy", "aclruntime")}}))
"""

# What atc's Python part imports: name in an import -> name for pip.
PACKAGES = {"attr": "attrs", "decorator": "decorator", "sympy": "sympy", "cffi": "cffi", "yaml": "pyyaml",
            "pathlib2": "pathlib2", "psutil": "psutil", "google.protobuf": "protobuf==3.20", "scipy": "scipy",
            "requests": "requests", "absl": "absl-py", "numpy": "numpy"}

MODULES = ("ais_bench", "aclruntime", "pkg_resources", "tbe", *PACKAGES)

HOME_VARIABLES = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")  # set_env.sh sets them
SET_ENV = ("/usr/local/Ascend/ascend-toolkit/set_env.sh", "/usr/local/Ascend/cann/set_env.sh",
           "~/Ascend/ascend-toolkit/set_env.sh", "~/Ascend/cann/set_env.sh",
           "/usr/local/Ascend/nnrt/set_env.sh", "/usr/local/Ascend/nnae/set_env.sh")
# Pattern of a file -> where CANN's version is in it, the official place first. The Version of version.info is that of a
# component: 7.7.0.1.238 of CANN 8.1.RC1.
VERSION_FILES = {"ascend_*_install.info": re.compile(r"^version=(\S+)", re.MULTILINE),
                 "version.cfg": re.compile(r"\[[^\[\]:]*:([^\[\]:]+)\]"),
                 "version.info": re.compile(r"^version_dir=(\S+)", re.MULTILINE)}


class Numpy(NamedTuple):
    """Versions of numpy that a release is for; None where its documents set no limit."""

    lowest: Optional[Version]
    too_new: Optional[Version]


class Limits(NamedTuple):
    """What a CANN release is for, as its documents say."""

    first: Version  # the first release that these are of
    python: Tuple[Version, Version]
    opset: Tuple[int, int]
    numpy: Numpy


BELOW_2, TO_1_24 = Numpy(None, (2,)), Numpy((1, 19, 2), (1, 25))
# The documents of each release, most of them its installation pages.
LIMITS = (
    Limits((9, 1), ((3, 7), (3, 14)), (9, 18), Numpy((1, 19, 2), None)),
    Limits((9,), ((3, 7), (3, 13)), (9, 18), Numpy((1, 19, 2), None)),
    Limits((8, 5), ((3, 7), (3, 13)), (9, 18), BELOW_2),
    Limits((8,), ((3, 7), (3, 11, 4)), (9, 18), TO_1_24),
    Limits((7,), ((3, 7), (3, 9)), (9, 18), BELOW_2),
    Limits((6,), ((3, 7), (3, 9)), (9, 13), BELOW_2),
    Limits((0,), ((3, 7), (3, 7)), (9, 13), BELOW_2),
)
ABOVE_2_1 = ((8, 5), (3, 13), Numpy((2, 1), None))  # this release with this Python asks for another numpy


def home() -> Optional[Path]:
    """The folder that set_env.sh names; None when it was not sourced."""
    return next((Path(os.environ[name]) for name in HOME_VARIABLES if os.environ.get(name)), None)


def version() -> Optional[str]:
    """The version, such as 8.1.RC1. None means that no version file says it."""
    folder = home()
    if folder is None:
        return None
    for name, place in VERSION_FILES.items():
        for path in sorted([*folder.glob(name), *folder.glob(f"*/{name}")]):
            match = place.search(path.read_text(errors="replace"))
            if match:
                return match.group(1)
    return None


def emulated() -> bool:
    """Whether this CANN is the emulator's of the tests, which leaves a file that says so."""
    folder = home()
    return folder is not None and (folder / "EMULATED").exists()


def numbers(text: str) -> Version:
    """The leading numbers of a version: 8.1.RC1 -> (8, 1)."""
    leading = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, leading.group().split("."))) if leading else ()


def limits(of: Optional[str], python: Version = ()) -> Optional[Limits]:
    """Those of a version of CANN with this Python; None when it is not known.

    A beta of a release is held to the release before: 9.0 beta 1 asks for numpy below 2.
    """
    if not of:
        return None
    release = numbers(of)
    found = next(row for row in LIMITS if release >= row.first and
                 not ("beta" in of.lower() and release[:2] == (*row.first, 0)[:2]))
    first, with_python, numpy = ABOVE_2_1
    return found._replace(numpy=numpy) if found.first == first and python[:2] >= with_python else found


def set_env_advice() -> str:
    """Which file to source, or where CANN comes from."""
    found = [path for path in map(os.path.expanduser, SET_ENV) if os.path.exists(path)]
    if found:
        return f"source {found[0]}"
    return f"source the set_env.sh of CANN (not at {SET_ENV[0]} nor at {SET_ENV[1]}: is the toolkit installed?)"


def ask_python() -> Dict[str, Any]:
    """Of the Python that CANN's tools take: `executable`, `version`, where `modules` are, versions of `packages`."""
    try:
        done = subprocess.run([PYTHON, "-c", _PROBE, *MODULES], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise UserError(f"{PYTHON} on PATH does not run ({error}). atc and ais_bench need it: correct PATH") from None
    return json.loads(done.stdout)
