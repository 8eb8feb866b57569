"""python3 -m tests.tensorrt_emulator: a rehearsal that says so before and after."""
from __future__ import annotations

import os
import subprocess
import sys

from conftest import ROOT


def rehearse(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "tests.tensorrt_emulator", *arguments], cwd=ROOT, capture_output=True,
                          text=True, env=dict(os.environ), timeout=300)


def test_the_command_runs_on_the_emulated_machine():
    program = "import tensorrt, sys; print(tensorrt.__version__); sys.exit(7)"
    finished = rehearse("--tensorrt", "8.6.1", "--", sys.executable, "-c", program)
    assert finished.returncode == 7 and finished.stdout.strip() == "8.6.1"
    assert finished.stderr.count("There is no GPU in this run") == 2


def test_a_command_is_needed():
    assert rehearse().returncode == 2
