"""Progress: on a terminal alone, so that a log has one line per stage; or in lines, for a log that is watched."""
from __future__ import annotations

import os
import sys
import time
from typing import Any, Iterable, Iterator, Optional, Sized

from contract.packages import not_importable
from contract.stage import QUIET

LINES = "FASTPOSE_LINES"  # in the environment of a stage whose output is kept and shown as it comes
SECONDS_BETWEEN_COUNTS, SECONDS_BETWEEN_LINES = 0.5, 10.0


def Progress(*arguments: Any, disable: bool = False, **options: Any) -> Any:
    """A bar of tqdm, with its arguments. A `Count` in LINES, where Python has only numpy, as on a server, and where
    nothing is shown: tqdm takes longer to load than a small stage needs."""
    quiet = disable or bool(os.environ.get(QUIET))
    lines = bool(os.environ.get(LINES))
    hidden = quiet or not (lines or sys.stderr.isatty())
    if lines or hidden or not_importable({"tqdm": "tqdm"}):
        return Count(*arguments, disable=hidden, lines=lines, **options)
    from tqdm import tqdm

    return tqdm(*arguments, **options)


class Count:
    """A count that is printed again over itself, or in lines, with the arguments of tqdm's bar that are used here."""

    def __init__(self, rows: Iterable = (), desc: str = "", total: Optional[int] = None, *, unit: str = "",
                 initial: int = 0, disable: bool = False, lines: bool = False, unit_scale: bool = False):
        self.rows, self.unit, self.desc, self.done, self.disable = rows, unit, desc, initial, disable
        self.total = len(rows) if total is None and isinstance(rows, Sized) else total
        self.text, self.seconds = ("{}\n", SECONDS_BETWEEN_LINES) if lines else ("\r{}", SECONDS_BETWEEN_COUNTS)
        self.lines, self.shown = lines, time.time() if lines else 0.0  # what is short needs no line

    def __iter__(self) -> Iterator:
        with self:
            for row in self.rows:
                yield row
                self.update()

    def __enter__(self) -> Count:
        return self

    def __exit__(self, *_: Any) -> None:
        if not self.disable and not self.lines:
            sys.stderr.write("\n")
        self.disable = True  # a loop over it ends it too

    def update(self, count: int = 1) -> None:
        self.done += count
        ends = self.done == self.total and not self.lines
        if not self.disable and (ends or time.time() - self.shown > self.seconds):
            self.shown = time.time()
            sys.stderr.write(self.text.format(f"{self.desc}: {self.done}/{self.total} {self.unit}"))
            sys.stderr.flush()

    def set_postfix(self, **_: Any) -> None:
        """What tqdm shows behind its bar is not shown here."""
