"""An emulated machine with an NVIDIA GPU, for tests: `tensorrt` and cuda-python where neither is installed.

In the test's own process, and in others:

    with emulated(tensorrt="11.4.0") as machine: ...
    subprocess.run([...], env=environment(tensorrt="8.6.1", layout="old"))

lib/nvidia_emulator/machine.py lists what can be configured. Numbers of speed that come out of it are the CPU's.
"""
from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

HERE = Path(__file__).resolve().parent
SWITCH, CONFIG = "NVIDIA_EMULATOR", "NVIDIA_EMULATOR_CONFIG"
PACKAGES = ("tensorrt", "cuda")  # what it stands for


def environment(base: Optional[Dict[str, str]] = None, layout: str = "new", trtexec: bool = False,
                python: Optional[Path] = None, **config: Any) -> Dict[str, str]:
    """The environment of a process on the machine. layout: of cuda-python, "new" (cuda.bindings.runtime) or "old"
    (cuda.cudart). trtexec: the machine has no Python package of NVIDIA's, only trtexec and nvidia-smi. python: the
    python3 that it has on PATH, if not this one."""
    env = dict(os.environ if base is None else base)
    env[SWITCH], env[CONFIG], env["EMULATOR_PYTHON"] = "1", json.dumps(config), sys.executable
    _put_in_front(env, "PATH", [str(HERE / "bin"), *([str(python.parent)] if python else [])])
    _put_in_front(env, "PYTHONPATH", [] if trtexec else _folders(layout))
    return env


def _put_in_front(env: Dict[str, str], name: str, folders: List[str]) -> None:
    env[name] = os.pathsep.join([*folders, *filter(None, [env.get(name)])])


def _folders(layout: str) -> List[str]:
    return [str(HERE / "site_tensorrt"), str(HERE / "site_cuda" / layout), str(HERE / "lib")]


def load(module: str) -> Any:
    """A module of the emulator's library. The switch is on only while it is imported."""
    if str(HERE / "lib") not in sys.path:
        sys.path.append(str(HERE / "lib"))
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "1"
    try:
        return importlib.import_module(f"nvidia_emulator.{module}")
    finally:
        if before is None:
            del os.environ[SWITCH]


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
        del sys.modules[name]


@contextlib.contextmanager
def emulated(layout: str = "new", **config: Any) -> Iterator[Any]:
    """This process as such a machine, with nothing open; yields the machine, whose `state` is what is open."""
    machine, state = load("machine"), load("device").STATE
    load("modules")
    machine.become(machine.Machine(**config))
    state.clear()
    folders, before = _folders(layout), sys.path[:]
    saved = {name: module for name, module in sys.modules.items() if name.split(".")[0] in PACKAGES}
    _forget()
    sys.path[:0] = folders
    machine.machine().state = state
    try:
        yield machine.machine()
    finally:
        _forget()
        sys.modules.update(saved)
        sys.path[:] = before
        machine.become(machine.Machine())
        state.clear()
