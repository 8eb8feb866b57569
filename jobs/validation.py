"""The validation table: one model's AP and speed on every target, and whether each agrees with PyTorch."""
from __future__ import annotations

from typing import Dict, List, Sequence

from contract.files import read_json, remove_file
from contract.records import is_emulated
from contract.room import gate_of
from contract.stage import Stage, stage
from contract.tables import format_table, mark
from jobs.arguments import ANNOTATIONS
from jobs.job import Job
from jobs.series import REFERENCE
from jobs.targets import room_of
from pose.result_table import rate_cell, score_cell, unit_of

AGREES, DIFFERS = 0, 1  # exit codes of compare.py


def comparisons(jobs: Sequence[Job]) -> List[Stage]:
    """Each target against the reference of its batch size."""
    return [comparison(reference, job) for reference, others in by_batch(jobs) for job in others]


def by_batch(jobs: Sequence[Job]) -> List[tuple]:
    """(reference, the others) of each batch size and kind of boxes."""
    references = [job for job in jobs if job.target == REFERENCE]
    return [(reference, [job for job in jobs if job is not reference and
                         (job.batch, job.label) == (reference.batch, reference.label)]) for reference in references]


def comparison(reference: Job, job: Job) -> Stage:
    """The stage that compares two results. Photos without annotations are compared too, without a score."""
    sides = [f"{one.target}={','.join(map(str, one.all_dumps))}" for one in (reference, job)]
    gate = gate_of([room_of(job.target, job.runner).precision(job)])
    scores = ("--dataroot", job.dataroot) if (job.dataroot / ANNOTATIONS).is_file() else ()
    return stage("compare.py", *sides, "--manifest", job.manifest, *scores, "--gate", gate, "--explain", "--json",
                 job.verdict, "--report", job.page, reads=(*reference.all_dumps, *job.all_dumps),
                 leaves=(job.verdict, job.page), codes=(AGREES, DIFFERS))


def forget_verdicts(jobs: Sequence[Job]) -> None:
    """Remove the verdicts of an earlier run: they must not stand beside these results."""
    for job in jobs:
        remove_file(job.verdict)


def agree(jobs: Sequence[Job]) -> bool:
    return all(read_json(job.verdict, "verdict")["agree"] for _, others in by_batch(jobs) for job in others)


def validation_table(jobs: Sequence[Job]) -> str:
    """One row per batch size: the model, the APs of all, then their speeds, then the verdicts."""
    rows = [_row([reference, *others]) for reference, others in by_batch(jobs)]
    return format_table(list(rows[0]), [list(row.values()) for row in rows])


def _row(jobs: List[Job]) -> Dict[str, object]:
    metrics = {job.target: read_json(job.metrics, "metrics") for job in jobs}
    verdicts = {job.target: read_json(job.verdict, "verdict") for job in jobs[1:]}
    return {"model": jobs[0].name, "batch": jobs[0].batch,
            **({"boxes": jobs[0].label.lstrip("_")} if jobs[0].label else {}),
            **{f"{target} AP": score_cell(of) for target, of in metrics.items()},
            **{f"{target} {unit_of(of)}/s": rate_cell(of) for target, of in metrics.items()},
            **{f"{target} agrees": mark("yes" if verdict["agree"] else "NO", is_emulated(metrics[target]))
               for target, verdict in verdicts.items()}}
