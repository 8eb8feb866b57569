"""Progress bars are for terminals."""
from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from conftest import ROOT

from contract import progress

PROGRAM = "from contract.progress import Progress; [None for _ in Progress(range(3), desc='counting')]"
COUNT = """
import sys
sys.modules["tqdm"] = None
from contract.progress import Progress
with Progress(total=3, unit="person", desc="counting") as bar:
    bar.update(1)
    bar.update(2)
"""


@pytest.mark.parametrize("program, last", [(PROGRAM, b"3/3"), (COUNT, b"counting: 3/3 person")],
                         ids=["tqdm", "without tqdm"])
@pytest.mark.parametrize("terminal, quiet, shown", [(True, "", True), (True, "1", False), (False, "", False)])
def test_a_bar_is_shown_on_a_terminal(program, last, terminal, quiet, shown):
    master, slave = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # rows, columns
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, stderr=slave, timeout=60, check=True,
                   env={**os.environ, "FASTPOSE_QUIET": quiet, "TERM": "xterm"})
    os.close(slave)
    text = b""
    with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
        while (block := os.read(master, 4096)):
            text += block
    os.close(master)
    assert (b"counting" in text) == (last in text) == shown


def test_lines_for_a_log_that_is_watched(monkeypatch, capsys):
    """A count for each update, because no time is waited for; none where it is quiet."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setenv(progress.LINES, "1")
    for quiet in ("", "1"):
        monkeypatch.setenv("FASTPOSE_QUIET", quiet)
        with progress.Progress(total=3, unit="person", desc="infer") as bar:
            bar.update()
            bar.update(2)
    assert capsys.readouterr().err == "infer: 1/3 person\ninfer: 3/3 person\n"
