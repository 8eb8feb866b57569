"""Ends the process group of a stage when the process that started it has gone: python3 -m jobs.watcher, fed by a pipe.

A line of the pipe is the group that runs now, or 0. The pipe closes when its writer ends, in whichever way. What runs
then is asked to end with SIGTERM, and killed after GRACE seconds.
"""
from __future__ import annotations

import os
import signal
import sys
import time
from typing import Iterable

GRACE = 5  # seconds


def signal_group(group: int, number: int) -> bool:
    """Whether there was anybody to signal; the number 0 only asks."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def watch(lines: Iterable[str]) -> None:
    group = 0
    for line in lines:
        group = int(line)
    deadline = time.monotonic() + GRACE
    running = group and signal_group(group, signal.SIGTERM)
    while running and time.monotonic() < deadline:
        time.sleep(0.05)
        running = signal_group(group, 0)
    if running:
        signal_group(group, signal.SIGKILL)


if __name__ == "__main__":
    watch(sys.stdin)
