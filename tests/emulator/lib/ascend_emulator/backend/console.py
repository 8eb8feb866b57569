"""The log lines of a C++ backend: written through the C library's own stdout, with its buffering.

So they come when they come on a machine with a card: at once on a terminal or with PYTHONUNBUFFERED=1, at the end of
the process in a pipe or file, never when it is killed or leaves by os._exit as the children of multiprocessing do.
"""
from __future__ import annotations

import ctypes
from typing import Optional

DEBUG, INFO, WARN, ERROR = 1, 2, 3, 4
NAMES = {DEBUG: "DEBUG", INFO: "INFO", WARN: "WARN", ERROR: "ERROR"}
_LIBC = ctypes.CDLL(None)
_LEVEL = [INFO]


def set_level(level: int) -> None:
    _LEVEL[0] = level


def say(level: int, text: str) -> None:
    if level >= _LEVEL[0]:
        write(f"[{NAMES[level]}] {text}\n")


def write(text: str) -> None:
    _LIBC.printf(b"%s", text.encode())


def flush() -> None:
    _LIBC.fflush(None)


def stream(text: Optional[str]) -> None:
    """A line of std::cout with std::endl, which flushes what was written before too."""
    if text is not None:
        write(text + "\n")
        flush()
