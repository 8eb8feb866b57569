"""The emulator inside this process, for tests that need no second one."""
from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any, Iterator

from tests.emulator import HERE, SWITCH


def load(module: str = "ascend_emulator") -> Any:
    """A module of the emulator's library. The switch is on only while it is imported."""
    if str(HERE / "lib") not in sys.path:
        sys.path.append(str(HERE / "lib"))
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "1"
    try:
        return importlib.import_module(module)
    finally:
        if before is None:
            del os.environ[SWITCH]


@contextlib.contextmanager
def configured(**config: Any) -> Iterator[Any]:
    """This process as a machine with this configuration and nothing open; yields the module acl."""
    machine, state = load("ascend_emulator.machine"), load("ascend_emulator.acl.state").STATE
    machine.become(machine.Machine(**config))
    state.clear()
    try:
        yield load("ascend_emulator.acl")
    finally:
        machine.become(machine.Machine())
        state.clear()


def build_om(onnx: Path, output: Path, input_shape: str, **flags: object) -> Path:
    """What `atc` would write, built here."""
    build = load("ascend_emulator.atc.build")
    values = {"model": str(onnx), "output": str(output), "input_shape": input_shape, "framework": "5",
              "soc_version": "Ascend310P3", **{name: str(value) for name, value in flags.items()}}
    path = output.with_suffix(".om")
    path.write_bytes(build.build(values, "atc"))
    return path
