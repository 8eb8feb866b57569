"""Progress: on a terminal alone, so that a log has one line per stage."""
from __future__ import annotations

import os
import sys
import time
from typing import Any, Optional

from contract.packages import not_importable
from contract.stage import QUIET

SECONDS_BETWEEN_LINES = 0.5


def Progress(*arguments: Any, disable: bool = False, **options: Any) -> Any:
    """A bar of tqdm, with its arguments; where Python has only numpy, as on a server, a `Count`."""
    quiet = disable or bool(os.environ.get(QUIET)) or None  # to tqdm, None means: where stderr is no terminal
    if not_importable({"tqdm": "tqdm"}):
        return Count(disable=quiet, **options)
    from tqdm import tqdm

    return tqdm(*arguments, disable=quiet, **options)


class Count:
    """A count that is printed again over itself, with the arguments of tqdm's bar that are used there."""

    def __init__(self, total: int, unit: str, desc: str, *, disable: Optional[bool]):
        self.total, self.unit, self.desc, self.done, self.shown = total, unit, desc, 0, 0.0
        self.disable = not sys.stderr.isatty() if disable is None else disable

    def __enter__(self) -> Count:
        return self

    def __exit__(self, *_: Any) -> None:
        if not self.disable:
            sys.stderr.write("\n")

    def update(self, count: int) -> None:
        self.done += count
        if not self.disable and (self.done == self.total or time.time() - self.shown > SECONDS_BETWEEN_LINES):
            self.shown = time.time()
            sys.stderr.write(f"\r{self.desc}: {self.done}/{self.total} {self.unit}")
            sys.stderr.flush()
