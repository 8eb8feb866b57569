"""Tables in Markdown, as every command prints them."""
from __future__ import annotations

from typing import Any, Iterable, Sequence

from contract.errors import printable


def format_table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A head, the line below it and the rows, without a last line break."""
    return "\n".join(map(format_row, (head, ["---"] * len(head), *rows)))


def mark(cell: str, emulated: bool, *remarks: str) -> str:
    """A figure that an emulated device gave says so in its cell, and what else must be known of it."""
    words = [*(["emulated"] if emulated else []), *remarks]
    return f"{cell} ({'; '.join(words)})" if words and cell != "-" else cell


def format_row(cells: Iterable[Any]) -> str:
    """Cells hold names and settings of files that others have made: they must not end the cell or the row."""
    return f"| {' | '.join(printable(str(cell)).replace('|', chr(92) + '|') for cell in cells)} |"
