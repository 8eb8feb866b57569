"""Progress: on a terminal alone, so that a log has one line per stage; or in lines, for a log that is watched."""
from __future__ import annotations

import os
import sys
import time
from typing import Any, Optional

from contract.packages import not_importable
from contract.stage import QUIET

LINES = "FASTPOSE_LINES"  # in the environment of a stage whose output is kept and shown as it comes
SECONDS_BETWEEN_COUNTS, SECONDS_BETWEEN_LINES = 0.5, 10.0


def Progress(*arguments: Any, disable: bool = False, **options: Any) -> Any:
    """A bar of tqdm, with its arguments; a `Count` where Python has only numpy, as on a server, and in LINES."""
    quiet = disable or bool(os.environ.get(QUIET)) or None  # to tqdm, None means: where stderr is no terminal
    if os.environ.get(LINES):
        return Count(disable=bool(quiet), lines=True, **options)
    if not_importable({"tqdm": "tqdm"}):
        return Count(disable=quiet, **options)
    from tqdm import tqdm

    return tqdm(*arguments, disable=quiet, **options)


class Count:
    """A count that is printed again over itself, or in lines, with the arguments of tqdm's bar that are used there."""

    def __init__(self, total: int, unit: str, desc: str, *, disable: Optional[bool], lines: bool = False):
        self.total, self.unit, self.desc, self.done = total, unit, desc, 0
        self.disable = not sys.stderr.isatty() if disable is None else disable
        self.text, self.seconds = ("{}\n", SECONDS_BETWEEN_LINES) if lines else ("\r{}", SECONDS_BETWEEN_COUNTS)
        self.lines, self.shown = lines, time.time() if lines else 0.0  # what is short needs no line

    def __enter__(self) -> Count:
        return self

    def __exit__(self, *_: Any) -> None:
        if not self.disable and not self.lines:
            sys.stderr.write("\n")

    def update(self, count: int = 1) -> None:
        self.done += count
        ends = self.done == self.total and not self.lines
        if not self.disable and (ends or time.time() - self.shown > self.seconds):
            self.shown = time.time()
            sys.stderr.write(self.text.format(f"{self.desc}: {self.done}/{self.total} {self.unit}"))
            sys.stderr.flush()
