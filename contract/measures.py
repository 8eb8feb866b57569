"""Times and rates in files, which any tool may have written."""
from __future__ import annotations

import sys
from typing import Any


def is_measure(value: Any) -> bool:
    """Whether it is a number that can have been measured: finite and not negative."""
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max
