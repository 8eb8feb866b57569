"""The outcome as text: Markdown tables, and one line of verdict for each pair."""
from __future__ import annotations

from typing import Any, Dict, List, Sequence

from comparison.gates import SCORE, TENSORS, first_difference
from comparison.pairs import Comparison, Pair

SHOWN = {"CosineSimilarity": "cosine", "CosineSimilarity_worst": "worst person", "MaxAbsoluteError": "max abs",
         "RootMeanSquareError": "RMSE", "RelativeEuclideanDistance": "relative distance", "Mismatched": "mismatched"}


def format_comparison(comparison: Comparison) -> str:
    labels = [side.label for side in comparison.sides]
    return "\n\n".join(format_pair(labels[0], labels[pair.b], pair) for pair in comparison.pairs)


def format_pair(a: str, b: str, pair: Pair) -> str:
    parts = [f"{b} against {a}"]
    if TENSORS in pair.levels:
        rows = [[name, *(number(folder[key]) for key in SHOWN)] for name, folder in pair.levels[TENSORS].items()]
        parts.append(table(["tensors", *SHOWN.values()], rows))
    parts.append(table(["level", "limit", "value", "", "bound", "kept"], [
        [verdict["level"], verdict["limit"], number(verdict["value"]), verdict["sense"], number(verdict["bound"]),
         kept(verdict)] for verdict in pair.verdicts]))
    if SCORE in pair.levels:
        parts.append(format_score(pair.levels[SCORE]))
    parts.append(verdict_line(a, b, pair))
    if pair.findings:
        parts.append("\n".join(f"{finding.status:>10}  {finding.title}: {finding.evidence}"
                               for finding in pair.findings))
    return "\n\n".join(parts)


def kept(verdict: Dict[str, Any]) -> str:
    return ("yes" if verdict["kept"] else "NO") + (f", {verdict['note']}" if verdict["note"] else "")


def format_score(score: Dict[str, Any]) -> str:
    rows = []
    for name, difference in score["differences"].items():
        interval = "-" if not score["intervals"] else "{:+.4f} .. {:+.4f}".format(*score["intervals"][name])
        rows.append([name, f"{score['a'][name]:.4f}", f"{score['b'][name]:.4f}", f"{difference:+.4f}", interval])
    return table(["score", "a", "b", "b - a", "95 % of replicates"], rows)


def verdict_line(a: str, b: str, pair: Pair) -> str:
    level = first_difference(pair.verdicts)
    if level is None:
        return f"verdict: {b} agrees with {a}"
    broken = [verdict["limit"] for verdict in pair.verdicts if not verdict["kept"]]
    return f"verdict: {b} DIFFERS from {a}, first at the {level} ({', '.join(broken)})"


def table(head: Sequence[str], rows: List[List[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def number(value: float) -> str:
    """Short, and yet telling 0.9999 from 0.99999."""
    return f"{value:.7g}" if 0.9 < abs(value) < 1 else f"{value:.4g}"
