"""What quantize.py found: as text, for its record, and as a page with the drop against the speed."""
from __future__ import annotations

import base64
import dataclasses
from html import escape
from typing import Any, Dict, List, Tuple

from comparison.page.figures import LABELS, WIDTH, html_table, line, svg, text
from comparison.page.page import STYLE
from contract.tables import format_table
from quantization.evaluation import Change
from quantization.quantizing import Quantized
from quantization.running import TIMED_RUNS
from quantization.search import Found, Point

HEIGHT, ROOM = 180, WIDTH - LABELS + 30
LAYERS = ("layer", "operator", "effect on the output", "ms float32", "ms int8", "kept")
POINTS = ("kept layers", "ms per crop of all layers", "cosine", "moved joints", "OKS drop",
          "AP (95 % interval of the change)", "goal reached")
KEPT = ("stays float", "why")
MOST_SHOWN = 24  # layers of a table


def format_quantized(made: Quantized) -> str:
    parts = []
    if made.methods:
        parts.append(format_table(("method", "distance to float32"),
                                  [(name, f"{distance:.3g}") for name, distance in made.methods.items()]))
    if made.found:
        parts += [f"goal: {made.found.goal}, measured on {made.judged}", format_table(POINTS, points(made.found))]
        if not made.found.chosen.passes:
            parts.append("the goal was not reached. Taken is the point where error times milliseconds is least, unless "
                         "fewer kept layers are as good")
    if made.decision.kept:
        parts.append(format_table(KEPT, made.decision.kept.items()))
    parts += [describe_change(made.change, made.judged),
              f"ONNX Runtime on this CPU: {made.float_ms:.2f} ms per crop in float32, {made.int8_ms:.2f} ms in int8 "
              f"(the least of {TIMED_RUNS} runs)"]
    return "\n\n".join(parts)


def describe_change(change: Change, judged: str) -> str:
    told = [f"cosine {change.cosine:.4f}"]
    if change.moved is not None:
        told.append(f"{100 * change.moved:.1f} % of joints in another cell")
    if change.drop_oks is not None:
        told.append(f"OKS drop {change.drop_oks:.4f}")
    if change.oks is not None and change.ap is not None:
        told += [f"OKS with the annotations {change.oks[0]:+.4f} (standard error {change.oks[1]:.4f})",
                 f"AP {ap_of(change)}, 95 % interval of the difference"]
    return f"int8 against float32, {change.people} crops ({judged}): {', '.join(told)}"


def ap_of(change: Change) -> str:
    if change.ap is None:
        return "-"
    low, high = change.ap[2]
    return f"{change.ap[0]:.4f} -> {change.ap[1]:.4f} ({low:+.4f} .. {high:+.4f})"


def points(found: Found) -> List[List[str]]:
    def cells(point: Point) -> List[str]:
        change = point.change
        numbers = ["-" if value is None else f"{value:.4f}" for value in (change.cosine, change.moved, change.drop_oks)]
        return [f"{point.count}{' (taken)' if point is found.chosen else ''}", f"{point.ms:.2f}", *numbers,
                ap_of(change), "yes" if point.passes else "NO"]

    return [cells(point) for point in sorted(found.tried, key=lambda point: point.count)]


def describe(made: Quantized) -> Dict[str, Any]:
    """For the record, in JSON's types."""
    found = made.found and {"goal": made.found.goal, "layers": [dataclasses.asdict(one) for one in made.found.layers],
                            "tried": [dataclasses.asdict(one) for one in made.found.tried]}
    return {"methods": made.methods, "search": found, "judged_on": made.judged,
            "change": dataclasses.asdict(made.change), "ms": {"float32": made.float_ms, "int8": made.int8_ms}}


def page(made: Quantized, title: str, sheet: bytes) -> bytes:
    """One self-contained HTML page; `sheet` is a JPEG of crops that it was calibrated on."""
    body = [f"<h1>{escape(title)}</h1>", f'<div class="verdict"><b>{escape(describe_change(made.change, made.judged))}'
            f"</b><p>{made.float_ms:.2f} ms per crop in float32, {made.int8_ms:.2f} ms in int8</p></div>"]
    if made.methods:
        body += ["<h2>Calibration methods</h2>", html_table(
            ("method", "distance to float32"), [[name, f"{one:.3g}"] for name, one in made.methods.items()])]
    if made.found:
        body += [f"<h2>Search: {escape(made.found.goal)}</h2>", html_table(POINTS, points(made.found))]
    if made.found and made.found.layers:
        layers = [[layer.name, layer.kind, f"{layer.effect:.3g}", f"{layer.float_ms:.3f}", f"{layer.int8_ms:.3f}",
                   "yes" if layer.name in made.decision.kept else ""] for layer in made.found.layers[:MOST_SHOWN]]
        body += [f'<div class="plots"><figure><figcaption>Difference to float32 (1 - cosine) against the time of all '
                 f"layers; the line is what the layers alone add up to</figcaption>{plot(made.found)}</figure></div>",
                 f"<h2>Layers, in the order in which they would be kept (the first {MOST_SHOWN})</h2>",
                 html_table(LAYERS, layers)]
    kept = [list(one) for one in made.decision.kept.items()]
    body += ["<h2>Stays float</h2>", html_table(KEPT, kept) if kept else "<p>No layer.</p>",
             "<h2>Calibrated on such crops</h2>", '<img alt="crops of the calibration" style="max-width:100%" '
             f'src="data:image/jpeg;base64,{base64.b64encode(sheet).decode()}">']
    head = (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
            f"<style>{STYLE.read_text()}</style></head>\n<body>")
    return (head + "\n".join(body) + "</body></html>\n").encode()


def plot(found: Found) -> str:
    """Each tried point: milliseconds to the right, 1 - cosine upwards; the taken one has a ring and its count."""
    counts = range(len(found.layers) + 1)
    slowest, fastest = found.ms(len(found.layers)), found.ms(0)
    most = max([1 - point.change.cosine for point in found.tried] + [found.error(0) / 2, 1e-6])

    def place(ms: float, off: float) -> Tuple[float, float]:
        return (LABELS / 2 + ROOM * (ms - fastest) / max(slowest - fastest, 1e-6) * 0.9,
                HEIGHT - 30 - (HEIGHT - 50) * min(off / most, 1))

    curve = [place(found.ms(count), found.error(count) / 2) for count in counts]  # 1 - cosine is half of the distance
    body = [line(*a, *b, "range") for a, b in zip(curve, curve[1:])]
    for point in found.tried:
        x, y = place(point.ms, 1 - point.change.cosine)
        title = f"{point.count} kept: {point.ms:.2f} ms, cosine {point.change.cosine:.4f}"
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="bar"><title>{title}</title></circle>')
        if point is found.chosen:
            body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="currentColor"/>',
                     text(x + 11, y - 6, f"{point.count} kept, taken", kind="value")]
    base = HEIGHT - 30
    body += [line(LABELS / 2, base, WIDTH, base, "axis"), line(LABELS / 2, 10, LABELS / 2, base, "axis"),
             text(LABELS / 2, HEIGHT - 12, f"{fastest:.2f} ms", kind="value"),
             text(WIDTH, HEIGHT - 12, f"{slowest:.2f} ms, all float32", "end", "value"),
             text(LABELS / 2 - 4, 18, f"{most:.2g}", "end", "value"), text(LABELS / 2 - 4, base, "0", "end", "value")]
    return svg(HEIGHT, body, "difference to float32 against milliseconds")
