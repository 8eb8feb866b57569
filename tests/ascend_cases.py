"""What the tests of ascend/ share: models built on an emulated machine, and our programs run there."""
from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict

import pytest
from conftest import ROOT, patch_model

from tests.emulator import environment


def run(env: Dict[str, str], *command: object) -> subprocess.CompletedProcess:
    """`python3 COMMAND` in the root; a command that ends in .sh is bash's."""
    program = "bash" if str(command[0]).endswith(".sh") else sys.executable
    return subprocess.run([program, *map(str, command)], cwd=ROOT, env=env, capture_output=True, text=True,
                          timeout=900)


def row(number: int, *values: object, **marks: object):
    """A case of row `number` of what goes wrong for people: section 9 of the reference, and the table of symptoms in
    docs/ascend.md, in the same order."""
    hint = re.sub(r"[^\w.]+", "_", str(values[-1]))
    return pytest.param(*values, id=f"row{number}-{hint}", **marks)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with the .om of a small model for batches of 1 and 4, and with the gears 1, 2 and 4."""
    folder = tmp_path_factory.mktemp("om")
    env = environment()
    for batch in ("batch", 1, 4):
        model = patch_model(folder / f"m_bs{batch}.onnx" if batch != "batch" else folder / "m.onnx", batch)
        sizes = ("--gears", "1,2,4") if batch == "batch" else ("--batch", batch)
        built = run(env, "-m", "ascend.atc", model, "--soc_version", "Ascend310P3", *sizes)
        assert built.returncode == 0, built.stderr
    return folder
