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


def environment(base: Optional[Dict[str, str]] = None, layout: str = "new", **config: Any) -> Dict[str, str]:
    """The environment of a process on the machine. layout: of cuda-python, "new" (cuda.bindings.runtime) or "old"
    (cuda.cudart)."""
    env = dict(os.environ if base is None else base)
    env[SWITCH], env[CONFIG] = "1", json.dumps(config)
    env["PYTHONPATH"] = os.pathsep.join([*_folders(layout), *filter(None, [env.get("PYTHONPATH")])])
    env["PATH"] = os.pathsep.join([str(HERE / "bin"), *filter(None, [env.get("PATH")])])
    return env


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
