"""The one exception for what a user can fix, exit codes, and text that a terminal may be shown."""
from __future__ import annotations

import sys

# Exit codes of every script: 0 done, or the results agree; 1 they differ, and nothing else; 2 usage or bad input; 3 a
# benchmark missed its goal; 70 a defect of this program; the others as a shell gives them for SIGINT, SIGPIPE, SIGTERM.
DONE, DIFFERS, BAD_INPUT, MISSED, DEFECT, INTERRUPTED, CLOSED_PIPE, TERMINATED = 0, 1, 2, 3, 70, 130, 141, 143


class UserError(ValueError):
    """Input or settings that the user can fix. One line: what was expected, what came, what to do."""


def note(text: str) -> None:
    """Report to the user what was corrected or left out. On stderr, so that tables can be piped."""
    print(f"note: {printable(text)}", file=sys.stderr)


def printable(text: str) -> str:
    """`text` without what would move a terminal's cursor or change its colours: such characters are escaped.

    Names and settings come from files that others have made.
    """
    return "".join(letter if letter.isprintable() or letter == "\t" else letter.encode("unicode_escape").decode()
                   for letter in text)
