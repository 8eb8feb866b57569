"""The doctor's look at CANN: whether it is there, and whether the Python that its tools take suits it."""
from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from ascend import cann
from ascend.findings import NOTE, OK, PROBLEM, Finding
from ascend.soc import family

BREAKING_PYTHON = (3, 13)  # operator compilers up to CANN 8.3 fail with its FrameLocalsProxy
BREAKING_NUMPY = (2,)  # for operator compilers that are for an older one
KERNELS_APART, KERNELS = (8, 5), "built-in/op_impl/ai_core/tbe/kernel"  # from this CANN on; where they are in opp/
OF_THE_TOOLKIT = {"ops_oam"}  # what an image without that package has there
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
    version, python = cann.version(), cann.ask_python()
    running = tuple(python["version"])
    limits = cann.limits(version, running)
    if version is None or limits is None:
        yield Finding("CANN", NOTE, "no version file found", "check Python and numpy against the notes of your CANN")
    else:
        yield Finding("CANN", OK, f"{version}; takes ONNX of opset {limits.opset[0]} to {limits.opset[1]}")
        yield check_version(version, limits, running, python["executable"])
        yield check_numpy(version, limits, python["packages"]["numpy"])
    yield check_libpython(running)
    yield check_compiler(python["modules"])


def check_version(version: str, limits: cann.Limits, running: cann.Version, executable: str) -> Finding:
    lowest, highest = limits.python
    facts = f"{_dotted(running)}, {executable}"
    if lowest <= running and running[:len(highest)] <= highest:
        return Finding("python3 on PATH", OK, facts)
    breaks = running >= BREAKING_PYTHON
    return Finding("python3 on PATH", PROBLEM if breaks else NOTE,
                   f"{facts}; CANN {version} is for {_dotted(lowest)} to {_dotted(highest)}",
                   f"{'put' if breaks else 'if atc fails, put'} a Python {_dotted(min((3, 10), highest[:2]))} with "
                   "numpy below 2 first on PATH")


def check_numpy(version: str, limits: cann.Limits, found: Optional[str]) -> Finding:
    """numpy 2 breaks the operator compiler of releases that are for an older one; what else is outside is a note."""
    wanted = [f"{sign}{_dotted(bound)}" for sign, bound in zip((">=", "<"), limits.numpy) if bound]
    remedy = f"{cann.PYTHON} -m pip install 'numpy{','.join(wanted)}'"
    if found is None:
        return Finding("its numpy", PROBLEM, "not installed", remedy)
    (lowest, too_new), here = limits.numpy, cann.numbers(found)
    too_high = too_new is not None and here >= too_new
    if not too_high and here >= (lowest or ()):
        return Finding("its numpy", OK, found)
    breaks = too_high and here >= BREAKING_NUMPY
    return Finding("its numpy", PROBLEM if breaks else NOTE, f"{found}; CANN {version} is for {' and '.join(wanted)}",
                   remedy if breaks else f"if atc fails, {remedy}")


def check_libpython(running: cann.Version) -> Finding:
    """atc embeds Python: it opens libpython where python3-config says, or else where the linker finds it."""
    names = [f"libpython{running[0]}.{running[1]}{suffix}.so.1.0" for suffix in ("", "m")]  # m up to 3.7
    prefix = _output("python3-config", "--prefix").strip()
    folders = [*([os.path.join(prefix, "lib")] if prefix else []),
               *filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))]
    paths = [os.path.join(folder, name) for folder in folders for name in names]
    paths += [path for path in re.findall(r"=> (\S+)", _output("ldconfig", "-p")) if os.path.basename(path) in names]
    found = next(filter(os.path.exists, paths), None)
    if found:
        return Finding("its libpython", OK, found)
    return Finding("its libpython", NOTE, f"no {names[0]} by python3-config or LD_LIBRARY_PATH",
                   "if atc ends with E40001, put a Python with a shared library (built with --enable-shared) first on "
                   "PATH, not one of a venv, and add the folder of its library to LD_LIBRARY_PATH")


def _output(*command: str) -> str:
    """What a program prints; empty where it is not there."""
    program = shutil.which(command[0]) or shutil.which(command[0], path="/sbin:/usr/sbin")
    return subprocess.run([program, *command[1:]], capture_output=True, text=True).stdout if program else ""


def check_compiler(modules: Dict[str, Optional[str]]) -> Finding:
    """Import the operator compiler as atc does, and name every package that it may lack at once."""
    place = modules[COMPILER]
    if place is None:
        return Finding("operator compiler", NOTE, f"no Python module {COMPILER}",
                       "atc needs it; is this the runtime (nnrt), and not the toolkit?")
    try:
        done = subprocess.run([cann.PYTHON, "-c", f"import {COMPILER}"], capture_output=True, text=True,
                              timeout=SECONDS_FOR_COMPILER)
    except subprocess.TimeoutExpired:
        return Finding("operator compiler", NOTE, f"{place}, whose import took more than {SECONDS_FOR_COMPILER} s",
                       "run the doctor again: the first import on a slow disk takes longest")
    missing = [for_pip for name, for_pip in cann.PACKAGES.items() if not modules[name]]
    if done.returncode == 0:
        return Finding("operator compiler", NOTE, f"{place}; its documents also ask for {', '.join(missing)}",
                       f"if atc fails, {_install(missing)}") if missing else Finding("operator compiler", OK, place)
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"code {done.returncode}"
    named = re.search(r"No module named '([\w.]+)'", last)
    if named:
        remedy = _install(list(dict.fromkeys([*missing, cann.PACKAGES.get(named.group(1), named.group(1))])))
    else:
        remedy = "numpy must be below 2 up to CANN 8.2, and Python below 3.13 up to CANN 8.3"
    return Finding("operator compiler", PROBLEM, last, remedy)


def _install(packages: List[str]) -> str:
    return f"{cann.PYTHON} -m pip install {' '.join(map(shlex.quote, packages))}"


def check_kernels(soc_version: str) -> Iterator[Finding]:
    """The operators of a chip came with the toolkit up to CANN 8.3, and are a package of their own from 8.5 on."""
    version, home = cann.version(), cann.home()
    if not version or not home or cann.numbers(version) < KERNELS_APART:
        return
    kernels = Path(os.environ.get("ASCEND_OPP_PATH", home / "opp")) / KERNELS / f"ascend{family(soc_version)}"
    if kernels.is_dir() and {entry.name for entry in kernels.iterdir()} - OF_THE_TOOLKIT:
        yield Finding("operators", OK, str(kernels))
    else:
        yield Finding("operators", NOTE, f"none of {soc_version} in {kernels}",
                      f"if atc ends with EZ3003, install the operators of this chip of CANN {version} (package "
                      "Ascend-cann-...-ops), which the toolkit no longer has")


def _dotted(version: cann.Version) -> str:
    return ".".join(map(str, version))
