"""Tables, and plots as inline SVG, narrow enough to be read on a phone. Colours are the page's, by class."""
from __future__ import annotations

import re
from html import escape
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

WIDTH = 340  # of every plot, in units of its text's pixels
LABELS = 96  # of them are the labels on the left
ROW = 17
BINS_A_DECADE = 4
DECADES = 6  # at most; what is smaller falls into the first bar
CLASSES = {"NO": "no", "yes": "yes"}  # of table cells, the words that carry a verdict
KEPT = ' translate="no"'  # an attribute: these words are the user's, or of a file, and stay in every language

NUMBER = re.compile(r"(>=|<=)?[-+\d.,%e ()]*\d[-+\d.,%e ()]*")  # a number, a bound or an interval stays on one line

Figures = Dict[str, Dict[str, str]]  # heading of the page -> caption -> HTML


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], named: Sequence[str] = ()) -> str:
    """It scrolls by itself where it is too wide. Titles among `named` are the user's own words."""
    def cell(content: str) -> str:
        kind = "number" if NUMBER.fullmatch(content) else CLASSES.get(content.partition(",")[0], "")
        return f'<td class="{kind}">{escape(content)}</td>'

    lines = "".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows)
    titles = "".join(f"<th{KEPT if title in named else ''}>{escape(title)}</th>" for title in head)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def svg(height: float, body: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'


def text(x: float, y: float, content: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(content)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> str:
    size = f'width="{max(width, 0.0):.1f}" height="{max(height, 0.0):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="{kind}"><title>{escape(title)}</title></rect>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def bars(names: Sequence[str], values: Sequence[float], most: float, form: str, label: str) -> str:
    """One horizontal bar a name, on a scale from 0 to `most`; a sentence where all are 0."""
    if not any(values):
        return f"<p>All {len(values)} values are 0.</p>"
    room = WIDTH - LABELS - 48
    body = []
    for row, (name, value) in enumerate(zip(names, values)):
        y, length = row * ROW, room * min(value / most, 1) if most > 0 else 0
        body += [text(LABELS - 6, y + 12, name, "end"), rect(LABELS, y + 2, room, ROW - 4, "track"),
                 rect(LABELS, y + 2, length, ROW - 4, "bar", form.format(value)),
                 text(WIDTH, y + 12, form.format(value), "end", "value")]
    return svg(len(names) * ROW, body, label)


def histogram(values: np.ndarray, label: str) -> str:
    """Counts over a logarithmic axis; zeros and what is far below the rest are counted in the first bar."""
    positive = values[values > 0]
    if not len(positive):
        return f"<p>All {values.size} values are 0.</p>"
    high = int(np.ceil(np.log10(positive.max()) + 1e-9))
    low = max(int(np.floor(np.log10(positive.min()))), high - DECADES)
    bins = (high - low) * BINS_A_DECADE
    at = np.floor((np.log10(np.maximum(values, 10.0 ** low)) - low) * BINS_A_DECADE).astype(int)
    counts = np.bincount(np.clip(at.ravel(), 0, bins - 1), minlength=bins)
    height, base, step = 120, 122, WIDTH / bins
    body = [rect(number * step + 0.5, base - tall, step - 1, tall, "bar",
                 f"{count} from {10 ** (low + number / BINS_A_DECADE):.3g}")
            for number, (count, tall) in enumerate(zip(counts, height * counts / counts.max()))]
    body.append(line(0, base, WIDTH, base, "axis"))
    for decade in range(low, high + 1):
        x = (decade - low) * BINS_A_DECADE * step
        anchor = "start" if decade == low else "end" if decade == high else "middle"
        body += [line(x, base, x, base + 4, "axis"), text(x, base + 16, f"{10.0 ** decade:g}", anchor, "value")]
    smaller = int((values < 10.0 ** low).sum())
    note = f"{values.size} values" + (f", {smaller} of them below {10.0 ** low:g} in the first bar" if smaller else "")
    return svg(142, body, label) + f'<p class="note">{note}</p>'


def intervals(rows: Dict[str, Tuple[float, Optional[List[float]]]], label: str) -> str:
    """A dot for each difference and a line for its interval, about a common zero; a sentence where all are 0."""
    if not any(value for difference, interval in rows.values() for value in [difference, *(interval or [])]):
        return f"<p>All {len(rows)} values are 0.</p>"
    reach = max([1e-4, *(abs(value) for difference, interval in rows.values()
                         for value in [difference, *(interval or [])])])
    left, room = LABELS - 40, WIDTH - LABELS - 24

    def place(value: float) -> float:
        return left + room * (value / reach + 1) / 2

    body = [line(place(0), 0, place(0), len(rows) * ROW, "axis")]
    for row, (name, (difference, interval)) in enumerate(rows.items()):
        y = row * ROW + 9
        body.append(text(left - 8, y + 4, name, "end"))
        if interval:
            body.append(line(place(interval[0]), y, place(interval[1]), y, "range"))
        body += [f'<circle cx="{place(difference):.1f}" cy="{y}" r="4" class="bar"/>',
                 text(WIDTH, y + 4, f"{difference:+.4f}", "end", "value")]
    return svg(len(rows) * ROW, body, label)
