"""What the doctor finds: one line each, the table of them, and what differs between two machines."""
from __future__ import annotations

import re
import unicodedata
from typing import List, NamedTuple, Sequence, Tuple

from contract.errors import UserError
from contract.files import PathLike, read_json, write_json

OK, NOTE, PROBLEM = "ok", "note", "problem"
ABSENT = "-"


COLUMNS = ("what", "state", "found", "what to do")
FORMAT = 1  # of saved findings


class Finding(NamedTuple):
    what: str
    state: str
    found: str
    remedy: str = ""


def format_table(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    *padded, _ = zip(*(columns, *rows))
    widths = [max(map(_width, column)) for column in padded]
    lines = [[cell + " " * (width - _width(cell)) for cell, width in zip(row, widths)] + [row[-1]]
             for row in (columns, *rows)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def halves(error: UserError) -> List[str]:
    """What was found, and what to do: an error says the one before the first stop or colon, the other after it."""
    found, _, remedy = re.sub(r"[:.] ", "\0", str(error), count=1).partition("\0")
    return [found, remedy]


def save(path: PathLike, findings: List[Finding], emulated: bool) -> None:
    write_json(path, {"format": FORMAT, "emulated": emulated, "findings": [finding._asdict() for finding in findings]})


def load(path: PathLike) -> List[Finding]:
    content = read_json(path, "saved findings")
    try:
        if content["format"] != FORMAT:
            raise ValueError
        return [Finding(**{name: str(value) for name, value in finding.items()}) for finding in content["findings"]]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: expected what python3 -m ascend.doctor --save writes. Save it again") from None


def differences(a: List[Finding], b: List[Finding]) -> List[Tuple[str, str, str]]:
    """(what, of a, of b) of each finding that is another one on the two machines, in the order of a."""
    one, other = ({finding.what: finding.found if finding.state == OK else f"{finding.state}: {finding.found}"
                   for finding in side} for side in (a, b))
    return [(what, one.get(what, ABSENT), other.get(what, ABSENT)) for what in dict.fromkeys([*one, *other])
            if one.get(what) != other.get(what)]
