"""Arguments, help texts and types that several commands share."""
from __future__ import annotations

import argparse
import os
from typing import Any, Callable, Dict, Optional, Sequence

from contract.stage import QUIET
from contract.version import VERSION

# The action of a flag that can be given as --name and --no-name; before Python 3.9, which has it, as --name alone.
ON_OFF: Dict[str, Any] = {"action": getattr(argparse, "BooleanOptionalAction", "store_true"), "default": None}
DEFAULT_CONFIG = "configs/256x192_res50_lr1e-3_1x.yaml"  # of the network that the project is about, from its root


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Ends each help text with its default, unless the text says it, or it is None or a flag that is off."""

    def _get_help_string(self, action: argparse.Action) -> Optional[str]:
        nothing = action.default is None or action.default is False or action.default == []
        if nothing or "(default:" in str(action.help):
            return action.help
        return super()._get_help_string(action)


class _Quiet(argparse.Action):
    """In the environment, so that the processes that a stage starts are quiet too."""

    def __call__(self, *_: Any) -> None:
        os.environ[QUIET] = "1"


def parse(parser: argparse.ArgumentParser, argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse with the flags that every stage takes: --quiet and --version."""
    parser.add_argument("--quiet", action=_Quiet, nargs=0, default=argparse.SUPPRESS, help="no progress bars")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    return parser.parse_args(argv)


def folder_name(text: str) -> str:
    """A `type` of argparse: the name of a folder inside another one, without a path separator."""
    if text in ("", ".", "..") or os.path.basename(text) != text:
        raise argparse.ArgumentTypeError(f"{text!r}, expected the name of a folder, without {os.sep}")
    return text


def one_part(text: str) -> str:
    """A `type` of argparse: K/N, of which K counts from 0."""
    try:
        number, count = map(int, text.split("/"))
    except ValueError:
        number, count = 0, 0
    if not 0 <= number < count:
        raise argparse.ArgumentTypeError(f"{text!r}, expected K/N with K from 0 to N-1")
    return text


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
