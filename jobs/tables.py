"""The results of the jobs of one run, one row per job."""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

from contract.files import read_json
from contract.records import is_emulated
from contract.tables import format_table
from jobs.job import Job
from pose.result_table import NOTHING, result_row, score_cell


def results_table(jobs: Sequence[Job], more: Callable[[Job, Dict[str, Any]], Dict[str, Any]] = lambda *_: {}) -> str:
    """Of one kind of boxes. The target stands first where there are several, published figures last, and after them
    the cells that `more` gives of a job and its metrics."""
    several = len({job.target for job in jobs}) > 1
    rows = []
    for job in jobs:
        metrics = read_json(job.metrics, "metrics")
        rows.append({**({"target": job.target} if several else {}), **result_row(metrics), "batch": job.batch,
                     **_published(job, metrics), **more(job, metrics)})
    return _table(rows)


def boxes_table(jobs: Sequence[Job], kinds: Sequence[str]) -> str:
    """The AP with each kind of boxes, one row per target and batch size."""
    by_kind = [[job for job in jobs if job.label == f"_{kind}"] for kind in kinds]
    rows = []
    for same in zip(*by_kind):
        metrics = [read_json(job.metrics, "metrics") for job in same]
        rows.append({"target": same[0].target, "model": result_row(metrics[0])["model"], "batch": same[0].batch,
                     **{f"AP, {kind} boxes": score_cell(of) for kind, of in zip(kinds, metrics)}})
    return _table(rows)


def _table(rows: List[Dict[str, Any]]) -> str:
    return format_table(list(rows[0]), [list(row.values()) for row in rows])


def _published(job: Job, metrics: Dict[str, Any]) -> Dict[str, str]:
    """What others have published of this network on this device; a score only of all photos, nothing of one pass."""
    from contract.published import published_of  # these need packages, and this file is read before there are any
    from contract.spec import load_spec

    found = [] if is_emulated(metrics) or job.one_pass else \
        published_of(load_spec(job.cfg), metrics["dumps"][0] or {}, metrics["settings"]["boxes"])
    cells = {cell.figure: cell.value for cell in found}
    return {"published AP": f"{cells['AP']:.4f}" if "AP" in cells and not job.limit else NOTHING,
            "published crops/s": f"{cells['crops/s']:.0f}" if "crops/s" in cells else NOTHING}


def who_got_options(choices: Sequence[Any]) -> str:
    """A line for each option that only some of the targets take. Empty if there is no such option."""
    lines = []
    for name in dict.fromkeys(name for choice in choices for name in choice.options):
        takers = [choice for choice in choices if name in choice.options]
        if len(takers) < len(choices):
            lines.append(f"--{name} {takers[0].options[name]}: {', '.join(choice.target for choice in takers)}")
    return "\n".join(lines)
