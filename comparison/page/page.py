"""One self-contained HTML page: verdict, tables, plots, the worst people, settings and hashes. It loads nothing."""
from __future__ import annotations

import hashlib
import json
from html import escape
from pathlib import Path
from typing import Dict, List, Optional

from comparison.compare import Comparison, describe
from comparison.finding import FOUND
from comparison.levels import LEVELS
from comparison.limits import number
from comparison.page.figures import Figures, html_table
from comparison.page.skeletons import draw_people
from comparison.results import Options, Result
from contract.files import PathLike, sha256_of_file, write_file

STYLE = Path(__file__).with_name("page.css")


def write_page(path: PathLike, comparisons: List[Comparison], results: List[Result], options: Options,
               manifest_path: Optional[PathLike], dataroot: Optional[PathLike]) -> None:
    """Write the page of all `comparisons` with the first of `results`. Photographs are drawn from `dataroot`; hashing
    reads every dump again."""
    title = f"{', '.join(result.label for result in results[1:])} against {results[0].label}"
    body = [f"<h1>{escape(title)}</h1>", *map(verdict, comparisons)]
    for comparison, other in zip(comparisons, results[1:]):
        body += comparison_sections(comparison, results[0], other, options, Path(dataroot) if dataroot else None)
    body += provenance(comparisons, results, options, manifest_path)
    page = ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
            f"<style>{STYLE.read_text()}</style></head>\n<body>" + "\n".join(body) + "</body></html>\n")
    write_file(path, page.encode())


def verdict(comparison: Comparison) -> str:
    found = [finding for finding in comparison.findings if finding.status == FOUND]
    evidence = f" {escape(found[0].evidence)}." if found else ""
    why = f"<p>{escape(comparison.conclusion)}.{evidence}</p>" if comparison.findings else ""
    return f'<div class="verdict{"" if comparison else " differs"}"><b>{escape(comparison.verdict)}</b>{why}</div>'


def comparison_sections(comparison: Comparison, a: Result, b: Result, options: Options,
                        dataroot: Optional[Path]) -> List[str]:
    rows = [[verdict.level, verdict.meaning, number(verdict.value), f"{verdict.sense} {number(verdict.bound)}",
             verdict.answer] for verdict in comparison.verdicts]
    parts = [f"<h2>{escape(b.label)} against {escape(a.label)}</h2>", "<h3>Limits</h3>",
             html_table(["level", "what", "value", "limit", "kept"], rows)]
    if comparison.findings:
        tested = [[finding.status, finding.title, finding.evidence] for finding in comparison.findings]
        parts += ["<h3>Causes tested</h3>",
                  f'<p class="note">a is {escape(a.label)}, the reference; b is {escape(b.label)}.</p>',
                  html_table(["", "cause", "evidence"], tested)]
    for heading, figures in level_figures(comparison, a, b, options).items():
        parts += [f"<h3>{heading}</h3>", plots(figures)]
    height, width = options.spec.input_size
    worst = comparison.levels["keypoints"].worst
    if all(f"{person['input_pixels_max']:.1f}" == "0.0" for person in worst):
        return parts  # nobody differs
    return [*parts, "<h3>The people who differ most</h3>",
            f'<p class="note"><span class="key"></span> {escape(a.label)} <span class="key b"></span> '
            f"{escape(b.label)}; joints that count in a person's score.</p>",
            draw_people(dataroot, a.people, b.people, worst, width / height)]


def level_figures(comparison: Comparison, a: Result, b: Result, options: Options) -> Figures:
    """What all levels show, by heading."""
    merged: Figures = {}
    for name, measured in comparison.levels.items():
        for heading, figures in LEVELS[name].section(measured, a, b, options).items():
            merged.setdefault(heading, {}).update(figures)
    return merged


def provenance(comparisons: List[Comparison], results: List[Result], options: Options,
               manifest_path: Optional[PathLike]) -> List[str]:
    """Where everything came from, with sha256, so that the page can be compared with the files."""
    parts = ["<h2>Settings and hashes</h2>"]
    for result in results:
        parts += [f"<h3>{escape(result.label)}</h3>", f"<pre>{escape(json.dumps(hashes(result), indent=1))}</pre>",
                  "<details><summary>settings</summary>"
                  f"<pre>{escape(json.dumps(result.records, indent=1))}</pre></details>"]
    record = describe(comparisons, results, options.limits)
    rest = {"manifest": {str(manifest_path): sha256_of_file(manifest_path)} if manifest_path else None,
            "people": record["people"], "limits": options.limits, "versions": record["versions"]}
    return [*parts, "<h3>comparison</h3>", f"<pre>{escape(json.dumps(rest, indent=1))}</pre>"]


def hashes(result: Result) -> Dict[str, str]:
    """Path -> sha256 of a file, or of a folder's dumps: of their names and bytes, one after another."""
    found = {}
    for reader in result.readers:
        digest = hashlib.sha256()
        for name in reader.names:
            digest.update(name.encode())
            digest.update((Path(reader.folder) / name).read_bytes())
        found[str(reader.folder)] = digest.hexdigest()
    if result.keypoints_path:
        found[str(result.keypoints_path)] = sha256_of_file(result.keypoints_path)
    return found


def plots(figures: Dict[str, str]) -> str:
    return '<div class="plots">' + "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{figure}</figure>" for caption, figure in figures.items()
    ) + "</div>"
