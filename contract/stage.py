"""One program of a job, planned before it runs."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Iterable, Optional, Tuple

QUIET = "FASTPOSE_QUIET"  # in the environment of a stage: no progress bars, on a terminal either


@dataclasses.dataclass(frozen=True)
class Stage:
    """`command` holds the arguments of Python: ("preprocess.py", "--limit", "5") or ("-m", "ascend.atc", ...).

    `reads` and `leaves` are what it needs and makes, for who reads the plan; stages check their own files. `codes` are
    the exit codes after which the job goes on.
    """

    command: Tuple[str, ...]
    reads: Tuple[Path, ...] = ()
    leaves: Tuple[Path, ...] = ()
    codes: Tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """Of the program: preprocess.py, or ascend.atc."""
        return self.command[1] if self.command[0] == "-m" else self.command[0]


def stage(*command: object, reads: Iterable[Optional[Path]] = (), leaves: Iterable[Path] = (),
          codes: Tuple[int, ...] = (0,)) -> Stage:
    """A Stage of arguments of any kind; of what it may read, None is nothing."""
    return Stage(tuple(map(str, command)), tuple(filter(None, reads)), tuple(leaves), codes)
