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
# Any Python 3 must be able to run this.
_PROBE = """
import importlib.util, json, sys
try:
    from importlib import metadata
except ImportError:
    metadata = None

def place(name):
    spec = importlib.util.find_spec(name)
    return spec and (list(spec.submodule_search_locations or []) or [spec.origin])[0]

def version(name):
    try:
        return metadata.version(name)
    except Exception:
        return None

print(json.dumps({"executable": sys.executable, "version": sys.version_info[:3],
                  "modules": {name: place(name) for name in ("ais_bench", "aclruntime", "pkg_resources", "tbe")},
                  "packages": {name: version(name) for name in ("numpy", "aclruntime")}}))
"""

HOME_VARIABLES = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")  # set_env.sh sets them
SET_ENV = ("/usr/local/Ascend/ascend-toolkit/set_env.sh", "/usr/local/Ascend/cann/set_env.sh",
           "~/Ascend/ascend-toolkit/set_env.sh", "~/Ascend/cann/set_env.sh",
           "/usr/local/Ascend/nnrt/set_env.sh", "/usr/local/Ascend/nnae/set_env.sh")
VERSION_FILES = ("version.cfg", "version.info", "ascend_toolkit_install.info")
_VERSION = re.compile(r"\[[^\[\]:]*:([^\[\]:]+)\]|^[ \t]*[Vv]ersion[ \t]*=[ \t]*(\S+)", re.MULTILINE)


class Limits(NamedTuple):
    """What a CANN release works with, as its documents say; None where they say nothing."""

    first: Version  # the first release that these are of
    python: Tuple[Version, Version]
    opset: Tuple[int, int]
    numpy: Optional[Version]  # the first numpy that is too new


# Documents of CANN 5.0.4 to 9.1. Those of 8.1 and 8.2 name no Python: images for 3.11 exist. numpy 2 breaks the
# operator compiler up to 8.2 as reports say, and 8.3 asks for at most 1.24.
LIMITS = (
    Limits((9, 1), ((3, 7), (3, 14)), (9, 18), None),
    Limits((8, 5), ((3, 7), (3, 13)), (9, 18), None),
    Limits((8, 3), ((3, 7), (3, 11)), (9, 18), (1, 25)),
    Limits((8, 1), ((3, 7), (3, 11)), (9, 18), (2,)),
    Limits((8,), ((3, 7), (3, 10)), (9, 18), (2,)),
    Limits((7,), ((3, 7), (3, 9)), (9, 18), (2,)),
    Limits((0,), ((3, 7), (3, 7)), (9, 13), (2,)),
)


def home() -> Optional[Path]:
    """The folder that set_env.sh names; None when it was not sourced."""
    return next((Path(os.environ[name]) for name in HOME_VARIABLES if os.environ.get(name)), None)


def version() -> Optional[str]:
    """Such as 8.1.RC1; None when no version file tells."""
    folder = home()
    for name in VERSION_FILES if folder else ():
        for path in sorted([*folder.glob(name), *folder.glob(f"*/{name}")]):
            match = _VERSION.search(path.read_text(errors="replace"))
            if match:
                return match.group(1) or match.group(2)
    return None


def emulated() -> bool:
    """Whether this CANN is the emulator's of the tests, which leaves a file that says so."""
    return home() is not None and (home() / "EMULATED").exists()


def numbers(text: str) -> Version:
    """The leading numbers of a version: 8.1.RC1 -> (8, 1)."""
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*|", text).group().split(".") if part)


def limits(of: Optional[str]) -> Optional[Limits]:
    """Those of a version of CANN; None when it is not known."""
    return next((row for row in LIMITS if numbers(of) >= row.first), None) if of else None


def set_env_advice() -> str:
    """Which file to source, or where CANN comes from."""
    found = [path for path in map(os.path.expanduser, SET_ENV) if os.path.exists(path)]
    if found:
        return f"source {found[0]}"
    return f"source the set_env.sh of CANN (not at {SET_ENV[0]} nor at {SET_ENV[1]}: is the toolkit installed?)"


def ask_python() -> Dict[str, Any]:
    """Of the Python that CANN's tools take: `executable`, `version`, where `modules` are, versions of `packages`."""
    try:
        done = subprocess.run([PYTHON, "-c", _PROBE], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise UserError(f"{PYTHON} on PATH does not run ({error}). atc and ais_bench need it: correct PATH") from None
    return json.loads(done.stdout)
