"""What the doctor finds: one line each, and the table of them."""
from __future__ import annotations

import re
import unicodedata
from typing import List, NamedTuple

from contract.errors import UserError

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    what: str
    state: str
    found: str
    remedy: str = ""


def format_table(findings: List[Finding]) -> str:
    columns = ("what", "state", "found", "what to do")
    widths = [max(_width(cell) for cell in column) for column in zip(columns[:3], *(row[:3] for row in findings))]
    lines = [[cell + " " * (width - _width(cell)) for cell, width in zip(row, widths)] + [row[3]]
             for row in (columns, *findings)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def halves(error: UserError) -> List[str]:
    """What was found, and what to do: an error says the one before the first stop or colon, the other after it."""
    found, _, remedy = re.sub(r"[:.] ", "\0", str(error), count=1).partition("\0")
    return [found, remedy]
