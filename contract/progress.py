"""Progress bars: on a terminal alone, so that a log has one line per stage."""
from __future__ import annotations

import os
from typing import Any

from tqdm import tqdm

from contract.stage import QUIET


class Progress(tqdm):
    """A bar of tqdm, with its arguments."""

    def __init__(self, *arguments: Any, disable: bool = False, **options: Any):
        # To tqdm, None means: where stderr is no terminal.
        super().__init__(*arguments, disable=disable or bool(os.environ.get(QUIET)) or None, **options)
