"""What several commands say of their arguments in the same words."""
from __future__ import annotations

import argparse
from typing import Callable, Optional

DEFAULT_CONFIG = "configs/256x192_res50_lr1e-3_1x.yaml"  # of the network that the project is about, from its root


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Ends each help text with its default, except where that says nothing: None, and a flag that is off."""

    def _get_help_string(self, action: argparse.Action) -> Optional[str]:
        if action.default is None or action.default is False or action.default == []:
            return action.help
        return super()._get_help_string(action)


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
