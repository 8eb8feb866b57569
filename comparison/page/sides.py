"""What both sides are, beside each other: AP, speed, device, model and date, as far as their files say."""
from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Dict, List, Optional

from comparison.compare import Comparison
from comparison.levels.score import Score
from comparison.page.figures import html_table
from comparison.results import Result
from contract.dumps import read_summary, summary_of
from contract.errors import UserError
from contract.records import is_emulated, read_record
from contract.tables import mark

METRICS = "metrics.json"  # beside a keypoints file
NOTHING = "-"


def sides_table(results: List[Result], comparisons: List[Comparison]) -> str:
    """A column for each result, the reference first. What no file says has no row."""
    scores: List[Optional[Score]] = [comparison.levels.get("score") for comparison in comparisons]
    columns = [{**(ap_of(score, index == 0) if score else {}), **describe_side(result)}
               for index, (result, score) in enumerate(zip(results, [scores[0], *scores]))]
    rows = dict.fromkeys(name for column in reversed(columns) for name in column)
    labels = [result.label for result in results]
    table = html_table(["side", *labels], [[name, *(column.get(name, NOTHING) for column in columns)] for name in rows],
                       labels)
    return f'<div class="sides">{table}</div>'


def ap_of(score: Score, reference: bool) -> Dict[str, str]:
    """Of the reference, or of the other with its difference from that."""
    if reference:
        return {"AP": f"{score.a['AP']:.4f}"}
    between = {"its 95 % interval": "{:+.4f} .. {:+.4f}".format(*score.intervals["AP"])} if score.intervals else {}
    return {"AP": f"{score.b['AP']:.4f}", "difference of AP": f"{score.differences['AP']:+.4f}", **between}


def describe_side(result: Result) -> Dict[str, str]:
    """Row of the table -> what stands there. Of a keypoints file alone, what postprocess.py wrote beside it says so."""
    metrics = (read_record(result.keypoints_path.with_name(METRICS)) if result.keypoints_path else None) or {}
    record: Dict[str, Any] = next(filter(None, [*result.records, *metrics.get("dumps", [])]), {})
    first = result.readers[0].folder if result.readers else result.keypoints_path
    assert first is not None  # of a pose, a result is of dumps or of keypoints
    return {**speeds(result, record), **(describe_record(record) if record else {}), "people": str(result.count),
            "date": date_of(Path(first))}


def describe_record(record: Dict[str, Any]) -> Dict[str, str]:
    backend = record.get("backend", "")
    version = record.get(backend, "")
    return {"device": str(record.get("device", NOTHING)), "backend": f"{backend} {version}".strip() or NOTHING,
            "precision": str(record.get("precision", NOTHING)), "batch": str(record.get("batch", NOTHING)),
            "model": str(record.get("model", NOTHING))}


def speeds(result: Result, record: Dict[str, Any]) -> Dict[str, str]:
    """By the summary beside the dumps of the normal bins; nothing where there is none that can be read."""
    summary = read_times(Path(result.readers[0].folder)) if result.readers else None
    if not summary:
        return {}
    unit, end = "crops/s" if result.holds_heatmaps else "people/s", summary["end_to_end"]
    rates = {f"{unit}, model alone": summary["throughput"],
             f"{unit}, with files": end and end["people_per_second"]}
    return {name: mark(f"{rate:.1f}", is_emulated(record)) for name, rate in rates.items() if rate}


def read_times(folder: Path) -> Optional[Dict[str, Any]]:
    try:
        return read_summary(summary_of(folder))
    except UserError:
        return None


def date_of(path: Path) -> str:
    """When the inference started, or where no summary says so, when the files were last written."""
    summary = read_times(path) if path.is_dir() else None
    end = summary and summary["end_to_end"]
    seconds = end["started"] if end else path.stat().st_mtime
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
