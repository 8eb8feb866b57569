"""The doctor's look at CANN: whether it is there, and whether the Python that its tools take suits it."""
from __future__ import annotations

import re
import shutil
import subprocess
from typing import Iterator, Optional

from ascend import cann
from ascend.findings import NOTE, OK, PROBLEM, Finding

BREAKING_PYTHON = (3, 13)  # operator compilers up to CANN 8.3 fail with its FrameLocalsProxy
COMPILER = "tbe"  # CANN's operator compiler, whose import shows which Python packages are missing
SECONDS_FOR_COMPILER = 120


def check_set_env() -> Iterator[Finding]:
    home = cann.home()
    if home is None:
        yield Finding("set_env.sh", PROBLEM, "ASCEND_TOOLKIT_HOME is not set", cann.set_env_advice())
    elif not home.is_dir():
        yield Finding("set_env.sh", PROBLEM, f"ASCEND_TOOLKIT_HOME is {home}: not there", cann.set_env_advice())
    else:
        yield Finding("set_env.sh", OK, str(home))
    if shutil.which("atc"):
        yield Finding("atc", OK, str(shutil.which("atc")))
    else:
        yield Finding("atc", PROBLEM, "not on PATH", f"{cann.set_env_advice()}; it is part of the toolkit, not of nnrt")


def check_python() -> Iterator[Finding]:
    """CANN, and the Python that its tools run with."""
    version = cann.version()
    limits = cann.limits(version)
    if limits is None:
        yield Finding("CANN", NOTE, "no version file found", "check Python and numpy against the notes of your CANN")
        return
    yield Finding("CANN", OK, f"{version}; takes ONNX of opset {limits.opset[0]} to {limits.opset[1]}")
    python = cann.ask_python()
    facts = f"{_dotted(python['version'])}, {python['executable']}"
    running, (lowest, highest) = tuple(python["version"][:2]), limits.python
    if lowest <= running <= highest:
        yield Finding("python3 on PATH", OK, facts)
    else:
        breaks = running >= BREAKING_PYTHON
        yield Finding("python3 on PATH", PROBLEM if breaks else NOTE,
                      f"{facts}; CANN {version} is for {_dotted(lowest)} to {_dotted(highest)}",
                      f"{'put' if breaks else 'if atc fails, put'} a Python {_dotted(min((3, 10), highest))} with "
                      "numpy below 2 first on PATH")
    yield check_numpy(version, limits, python["packages"]["numpy"])
    yield check_compiler(python["modules"][COMPILER])


def check_numpy(version: str, limits: cann.Limits, found: Optional[str]) -> Finding:
    if found is None:
        return Finding("its numpy", PROBLEM, "not installed", f"{cann.PYTHON} -m pip install 'numpy<2'")
    if limits.numpy is None or cann.numbers(found) < limits.numpy:
        return Finding("its numpy", OK, found)
    below = _dotted(limits.numpy)
    return Finding("its numpy", PROBLEM, f"{found}; CANN {version} is for numpy below {below}",
                   f"{cann.PYTHON} -m pip install 'numpy<{below}'")


def check_compiler(place: Optional[str]) -> Finding:
    """Import the operator compiler as atc does; it needs attrs, decorator and more, as its release likes."""
    if place is None:
        return Finding("operator compiler", NOTE, f"no Python module {COMPILER}",
                       "atc needs it; is this the runtime (nnrt), and not the toolkit?")
    done = subprocess.run([cann.PYTHON, "-c", f"import {COMPILER}"], capture_output=True, text=True,
                          timeout=SECONDS_FOR_COMPILER)
    if done.returncode == 0:
        return Finding("operator compiler", OK, place)
    missing = re.search(r"No module named '([\w.]+)'", done.stderr)
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"code {done.returncode}"
    remedy = (f"{cann.PYTHON} -m pip install {'attrs' if missing.group(1) == 'attr' else missing.group(1)}" if missing
              else "numpy must be below 2 up to CANN 8.2, and Python below 3.13 up to CANN 8.3")
    return Finding("operator compiler", PROBLEM, last, remedy)


def _dotted(version: cann.Version) -> str:
    return ".".join(map(str, version))
