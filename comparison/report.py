"""One self-contained HTML page: verdict, tables, plots, the worst people, settings and hashes. It loads nothing."""
from __future__ import annotations

import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from comparison.causes import FOUND
from comparison.figures import bars, histogram, intervals
from comparison.gates import HEATMAPS, KEYPOINTS, SCORE, TENSORS
from comparison.pairs import Comparison, Pair, describe
from comparison.sides import Side, match_people
from comparison.text import SHOWN, kept, number, verdict_line
from comparison.worst import JOINTS, draw_worst
from contract.files import PathLike, sha256_of_file, write_file
from pose.metrics import keypoint_distances, oks_between, relative_distances

STYLE = Path(__file__).with_name("page.css")


def write_report(path: PathLike, comparison: Comparison, limits: Dict[str, float], manifest_path: Optional[PathLike],
                 dataroot: Optional[PathLike]) -> None:
    """Write the page of `comparison`. Photographs are drawn from `dataroot`; hashing reads every dump again."""
    labels = [side.label for side in comparison.sides]
    title = f"{', '.join(labels[1:])} against {labels[0]}"
    body = [f"<h1>{escape(title)}</h1>", *(verdict(labels, pair) for pair in comparison.pairs)]
    for pair in comparison.pairs:
        body += pair_sections(comparison, pair, Path(dataroot) if dataroot else None)
    body += provenance(comparison, limits, manifest_path)
    page = ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
            f"<style>{STYLE.read_text()}</style></head>\n<body>" + "\n".join(body) + "</body></html>\n")
    write_file(path, page.encode())


def verdict(labels: List[str], pair: Pair) -> str:
    found = [finding for finding in pair.findings if finding.status == FOUND]
    why = (f"<p>Likely cause: <b>{escape(found[0].title)}</b>. In the data: "
           f"{escape(found[0].evidence)}.</p>" if found else "")
    line = verdict_line(labels[0], labels[pair.b], pair)
    return f'<div class="verdict{"" if pair.agree else " differs"}"><b>{escape(line)}</b>{why}</div>'


def pair_sections(comparison: Comparison, pair: Pair, dataroot: Optional[Path]) -> List[str]:
    a, b = comparison.sides[0].label, comparison.sides[pair.b].label
    rows = [[verdict["level"], verdict["meaning"], number(verdict["value"]), f"{verdict['sense']} "
             f"{number(verdict['bound'])}", kept(verdict)] for verdict in pair.verdicts]
    parts = [f"<h2>{escape(b)} against {escape(a)}</h2>", "<h3>Limits</h3>",
             table(["level", "what", "value", "limit", "kept"], rows)]
    if pair.findings:
        tested = [[finding.status, finding.title, finding.evidence] for finding in pair.findings]
        parts += ["<h3>Causes tested</h3>",
                  f'<p class="note">a is {escape(a)}, the reference; b is {escape(b)}.</p>',
                  table(["", "cause", "evidence"], tested)]
    if TENSORS in pair.levels:
        parts += ["<h3>Tensors</h3>", table(["dumps of bins", *SHOWN.values()], [
            [name, *(number(folder[key]) for key in SHOWN)] for name, folder in pair.levels[TENSORS].items()])]
    parts += ["<h3>Joints</h3>", plots(joint_figures(pair)), "<h3>People</h3>", plots(people_figures(comparison, pair))]
    if SCORE in pair.levels:
        parts += score_section(pair.levels[SCORE], a, b)
    width, height = comparison.input_size[::-1]
    parts += ["<h3>The people who differ most</h3>",
              f'<p class="note"><span class="key"></span> {escape(a)} <span class="key b"></span> {escape(b)}; joints '
              "that count in a person's score.</p>",
              draw_worst(dataroot, comparison.people[0], comparison.people[pair.b], pair.levels[KEYPOINTS]["worst"],
                         width / height)]
    return parts


def joint_figures(pair: Pair) -> Dict[str, str]:
    figures = {}
    for name, folder in pair.levels.get(HEATMAPS, {}).items():
        figures[f"Highest cell is the same, {name} crops"] = bars(
            JOINTS, folder["argmax_agreement_per_joint"], 1, "{:.4f}", "argmax agreement of each joint")
    if TENSORS in pair.levels:
        distances = [joint["RelativeEuclideanDistance"] for joint in pair.levels[TENSORS]["normal"]["per_joint"]]
        figures["Relative distance of heatmaps"] = bars(JOINTS, distances, max(distances), "{:.2g}",
                                                        "relative distance of each joint")
    pixels = pair.levels[KEYPOINTS]["input_pixels_p95_per_joint"]
    figures["Keypoint distance, 95th percentile, input pixels"] = bars(JOINTS, pixels, max(pixels), "{:.2f}",
                                                                       "keypoint distance of each joint")
    return figures


def people_figures(comparison: Comparison, pair: Pair) -> Dict[str, str]:
    a, b = comparison.people[0], comparison.people[pair.b]
    rows_a, rows_b = match_people(a, b)
    scale = comparison.input_size[1] / np.maximum(a.widths[rows_a], 1e-6)
    distances = keypoint_distances(a.keypoints[rows_a], b.keypoints[rows_b]) * scale[:, None]
    figures = {"Keypoint distances, input pixels": histogram(distances, "keypoint distances"),
               "1 - OKS of each person": histogram(1 - oks_between(a.keypoints[rows_a], b.keypoints[rows_b],
                                                                   a.areas[rows_a]), "1 - OKS")}
    if TENSORS in pair.levels:
        sums = comparison.decoded[pair.b].sums[0].sum(axis=1)
        figures["Relative distance of each person's heatmaps"] = histogram(relative_distances(sums), "distances")
    return figures


def score_section(score: Dict[str, Any], a: str, b: str) -> List[str]:
    between = score["intervals"] or {}
    rows = [[name, f"{score['a'][name]:.4f}", f"{score['b'][name]:.4f}", f"{difference:+.4f}",
             "{:+.4f} .. {:+.4f}".format(*between[name]) if between else "-"]
            for name, difference in score["differences"].items()]
    figure = intervals({name: (difference, between.get(name)) for name, difference in score["differences"].items()},
                       "differences of the COCO numbers with their intervals")
    return ["<h3>COCO score</h3>", plots({
        "": table(["", a, b, "difference", "95 % interval"], rows),
        f"Differences and intervals, {score['replicates']} replicates over photographs": figure})]


def provenance(comparison: Comparison, limits: Dict[str, float], manifest_path: Optional[PathLike]) -> List[str]:
    """Where everything came from, with sha256, so that the page can be held against the files."""
    parts = ["<h2>Settings and hashes</h2>"]
    record = describe(comparison, limits)
    for side, described in zip(comparison.sides, record["sides"]):
        parts += [f"<h3>{escape(side.label)}</h3>", f"<pre>{escape(json.dumps(hashes(side), indent=1))}</pre>",
                  "<details><summary>settings</summary>"
                  f"<pre>{escape(json.dumps(described['settings'], indent=1))}</pre></details>"]
    rest = {"manifest": {str(manifest_path): sha256_of_file(manifest_path)} if manifest_path else None,
            "people": record["people"], "limits": limits, "versions": record["versions"]}
    return [*parts, "<h3>comparison</h3>", f"<pre>{escape(json.dumps(rest, indent=1))}</pre>"]


def hashes(side: Side) -> Dict[str, str]:
    """Path -> sha256 of a file, or of a folder's dumps: of their names and bytes, one after another."""
    found = {}
    for reader in side.readers:
        digest = hashlib.sha256()
        for name in reader.names:
            digest.update(name.encode())
            digest.update((Path(reader.folder) / name).read_bytes())
        found[str(reader.folder)] = digest.hexdigest()
    if side.keypoints_path:
        found[str(side.keypoints_path)] = sha256_of_file(side.keypoints_path)
    return found


def plots(figures: Dict[str, str]) -> str:
    return '<div class="plots">' + "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{figure}</figure>" for caption, figure in figures.items()
    ) + "</div>"


def table(head: Sequence[str], rows: List[List[str]]) -> str:
    """HTML table; the words that carry a verdict are marked."""
    kinds = {"NO": "no", "yes": "yes", FOUND: "found"}

    def cell(content: str) -> str:
        return f'<td class="{kinds.get(content, "")}">{escape(content)}</td>'

    lines = "".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows)
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'
