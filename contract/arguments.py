"""What several commands say of their arguments in the same words."""
from __future__ import annotations

import argparse
from typing import Callable

DEFAULT_CONFIG = "configs/256x192_res50_lr1e-3_1x.yaml"  # of the network that the project is about, from its root


def at_least(least: int) -> Callable[[str], int]:
    """A `type` of argparse: whole numbers from `least` on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of at least {least}")
        return value

    return parse
