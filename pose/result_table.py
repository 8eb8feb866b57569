"""The cells of a result table, from metrics.json of postprocess.py."""
from __future__ import annotations

from typing import Any, Dict

from contract.records import is_emulated
from contract.tables import mark

NOTHING, REFUSED = "-", "refused"


def result_row(metrics: Dict[str, Any]) -> Dict[str, Any]:
    """Column -> cell of one run: its model, COCO numbers from 0 to 1, and speeds per second."""
    dumps, settings = metrics["dumps"][0] or {}, metrics["settings"]
    of = ", one pass" if is_one_pass(metrics) else ", both crops" if settings["flip_test"] else ""
    return {"model": dumps.get("model", NOTHING), "batch": dumps.get("batch", NOTHING),
            **{name: score_cell(metrics, name) for name in ("AP", "AP50", "AR")},
            f"{unit_of(metrics)}/s in the model": rate_cell(metrics),
            f"people/s, bins to dumps{of}": rate_cell(metrics, "people_per_second")}


def is_one_pass(metrics: Dict[str, Any]) -> bool:
    """Whether the model has mirrored the crops and found the joints itself; older results do not say."""
    return metrics["settings"].get("one_pass", False)


def unit_of(metrics: Dict[str, Any]) -> str:
    """What one row of the model's input is: a person for a one-pass model, which uses both crops of a person."""
    return "people" if is_one_pass(metrics) else "crops"


def score_cell(metrics: Dict[str, Any], name: str = "AP") -> str:
    """A COCO number; photos without annotations have none."""
    return mark(f"{metrics['metrics'][name]:.4f}" if metrics["metrics"] else NOTHING, is_emulated(metrics))


def rate_cell(metrics: Dict[str, Any], name: str = "crops_per_second") -> str:
    """A speed with what must be known of it. A run that was continued after all dumps existed has timed nothing, and a
    speed that is not of the run which made the dumps is refused."""
    speed = metrics["speed"]
    if "refused" in speed:
        return REFUSED
    value = speed.get(name)
    return mark(f"{value:.1f}" if value else NOTHING, is_emulated(metrics), *speed.get("remarks", ()))
