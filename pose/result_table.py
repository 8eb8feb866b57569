"""The cells of a result table, from metrics.json of postprocess.py."""
from __future__ import annotations

from typing import Any, Dict

from contract.records import is_emulated
from contract.tables import mark

NOTHING = "-"


def result_row(metrics: Dict[str, Any]) -> Dict[str, Any]:
    """Column -> cell of one run: its model, COCO numbers from 0 to 1, and speeds per second."""
    dumps, both = metrics["dumps"][0] or {}, ", both crops" if metrics["settings"]["flip_test"] else ""
    return {"model": dumps.get("model", NOTHING), "batch": dumps.get("batch", NOTHING),
            **{name: score_cell(metrics, name) for name in ("AP", "AP50", "AR")},
            "crops/s in the model": rate_cell(metrics),
            f"people/s, bins to dumps{both}": rate_cell(metrics, "people_per_second")}


def score_cell(metrics: Dict[str, Any], name: str = "AP") -> str:
    """A COCO number; photos that nobody has annotated have none."""
    return mark(f"{metrics['metrics'][name]:.4f}" if metrics["metrics"] else NOTHING, is_emulated(metrics))


def rate_cell(metrics: Dict[str, Any], name: str = "crops_per_second") -> str:
    """A run that was continued when all dumps were there has timed nothing."""
    value = metrics["speed"].get(name)
    return mark(f"{value:.1f}" if value else NOTHING, is_emulated(metrics))
