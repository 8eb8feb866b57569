"""One self-contained HTML page: the verdict and both sides first, then limits, causes, plots, the people who differ
most, settings and hashes. It loads nothing. What agrees is folded."""
from __future__ import annotations

import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any, Dict, List, Optional

from comparison.compare import Comparison, describe
from comparison.finding import CONSISTENT, FOUND, Finding
from comparison.levels import LEVELS
from comparison.limits import LEAST, Verdict, number
from comparison.page.figures import KEPT, Figures, html_table
from comparison.page.language import ENGLISH, LANGUAGES, translate_page
from comparison.page.sides import sides_table
from comparison.page.skeletons import draw_people
from comparison.results import Options, Result
from contract.files import PathLike, sha256_of_file, write_file

STYLE = Path(__file__).with_name("page.css")
INTERESTING = (FOUND, CONSISTENT)  # causes that are not folded


def write_page(path: PathLike, comparisons: List[Comparison], results: List[Result], options: Options,
               manifest_path: Optional[PathLike], dataroot: Optional[PathLike], language: str = ENGLISH) -> None:
    """Write the page of all `comparisons` with the first of `results`. Photos are drawn from `dataroot`; hashing
    reads every dump again. `language` is a key of LANGUAGES."""
    title = f"{', '.join(result.label for result in results[1:])} against {results[0].label}"
    body = [f"<h1>{escape(title)}</h1>", *map(verdict, comparisons), sides_table(results, comparisons)]
    for comparison, other in zip(comparisons, results[1:]):
        if len(comparisons) > 1:
            body.append(f"<h2>{escape(other.label)} against {escape(results[0].label)}</h2>")
        body += comparison_sections(comparison, results[0], other, options, Path(dataroot) if dataroot else None)
    body.append(section("Settings and hashes", provenance(comparisons, results, options, manifest_path), False))
    page = ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
            f"<style>{STYLE.read_text()}</style></head>\n<body>" + "\n".join(body) + "</body></html>\n")
    write_file(path, translate_page(page, LANGUAGES[language]).encode())


def verdict(comparison: Comparison) -> str:
    """Whether they agree, with the number that decides: of the first limit that is broken, or of the outcome."""
    broken = [one for one in comparison.verdicts if not one.kept]
    level = comparison.verdicts[-1].level
    decides = next(one for one in comparison.verdicts if one in broken or not broken and one.level == level)
    found = [finding for finding in comparison.findings if finding.status == FOUND]
    why = [f"<p>{escape(comparison.conclusion)}</p>"] if comparison.findings else []
    why += [f"<p>{escape(found[0].evidence)}</p>"] if found else []
    says = f"{comparison.b} {'DIFFERS from' if broken else 'agrees with'} {comparison.a}"
    return (f'<div class="verdict{" differs" if broken else ""}"><p><b>{escape(says)}</b>: '
            f"<span>{escape(describe_limit(decides))}</span></p>{''.join(why)}</div>")


def describe_limit(one: Verdict) -> str:
    bound = f"expected at {'least' if one.sense == LEAST else 'most'} {number(one.bound)}"
    return f"{one.meaning} is {number(one.value)}, {bound}" + (f", {one.note}" if one.note else "")


def section(heading: str, content: List[str], is_open: bool) -> str:
    return (f"<details{' open' if is_open else ''}><summary>{escape(heading)}</summary>"
            + "\n".join(content) + "</details>")


def comparison_sections(comparison: Comparison, a: Result, b: Result, options: Options,
                        dataroot: Optional[Path]) -> List[str]:
    differ = not comparison
    kept, broken = ([one for one in comparison.verdicts if one.kept == is_kept] for is_kept in (True, False))
    parts = [section(f"Limits not kept: {len(broken)}", [limits_table(broken)], True)] if broken else []
    parts += [section(f"Limits kept: {len(kept)}", [limits_table(kept)], False)] if kept else []
    parts += causes(comparison.findings, a.label, b.label) if differ else []
    parts += [section(heading, [plots(figures)], differ)
              for heading, figures in level_figures(comparison, a, b, options).items()]
    height, width = options.spec.input_size
    worst = [person for person in comparison.levels["keypoints"].worst if is_seen(person)]
    if worst:
        legend = (f'<p class="note"><span class="key"></span> <span{KEPT}>{escape(a.label)}</span> <span class="key b">'
                  f"</span> <span{KEPT}>{escape(b.label)}</span></p>") if dataroot else ""
        parts.append(section("The people who differ most", [legend, draw_people(
            dataroot, a.people, b.people, worst, width / height)], differ))
    return parts


def is_seen(person: Dict[str, Any]) -> bool:
    """Whether what differs is not 0.0 pixels as the page prints it."""
    return f"{person['input_pixels_max']:.1f}" != "0.0"


def limits_table(verdicts: List[Verdict]) -> str:
    return html_table(["level", "what", "value", "limit", "kept"], [
        [one.level, one.meaning, number(one.value), f"{one.sense} {number(one.bound)}", one.answer]
        for one in verdicts])


def causes(findings: List[Finding], a: str, b: str) -> List[str]:
    """Those that explain something, and the rest folded."""
    def as_list(some: List[Finding]) -> str:
        return "<dl>" + "".join(
            f'<dt><span class="{"found" if one.status == FOUND else "note"}">{one.status}</span> '
            f"<b>{escape(one.title)}</b></dt><dd>{escape(one.evidence)}</dd>" for one in some) + "</dl>"

    note = f'<p class="note">{escape(f"a is {a}, the reference; b is {b}.")}</p>'
    chosen, rest = ([one for one in findings if (one.status in INTERESTING) == wanted] for wanted in (True, False))
    return [section(f"{heading}: {len(some)}", [note, as_list(some)], is_open) for heading, some, is_open in (
        ("Causes that explain the difference or a part of it", chosen, True),
        ("Causes tried that do not explain it", rest, False)) if some]


def level_figures(comparison: Comparison, a: Result, b: Result, options: Options) -> Figures:
    """What all levels show, by heading; the outcome first."""
    merged: Figures = {}
    for name, measured in reversed(list(comparison.levels.items())):
        for heading, figures in LEVELS[name].section(measured, a, b, options).items():
            merged.setdefault(heading, {}).update(figures)
    return merged


def provenance(comparisons: List[Comparison], results: List[Result], options: Options,
               manifest_path: Optional[PathLike]) -> List[str]:
    """Where everything came from, with sha256, so that the page can be compared with the files."""
    def shown(content: Any) -> str:
        return f"<pre{KEPT}>{escape(json.dumps(content, indent=1))}</pre>"

    parts = []
    for result in results:
        parts += [f"<h3{KEPT}>{escape(result.label)}</h3>", shown(hashes(result)), shown(result.records)]
    record = describe(comparisons, results, options.limits)
    return [*parts, "<h3>comparison</h3>", shown({
        "manifest": {str(manifest_path): sha256_of_file(manifest_path)} if manifest_path else None,
        "people": record["people"], "limits": options.limits, "versions": record["versions"]})]


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
        f"<figure><figcaption>{escape(caption)}</figcaption>{figure}</figure>" if caption else
        f'<div class="whole">{figure}</div>' for caption, figure in figures.items()) + "</div>"
