"""Another model. That --model gives one result and not the other is no evidence of it: so it is with every fault."""
from __future__ import annotations

from typing import Any, List

from comparison.causes.case import Case
from comparison.finding import CONSISTENT, NOT_TESTED, RULED_OUT, Finding
from contract.onnx_file import sha256_of_model

TITLE = "another model: its weights differ"


def test(case: Case) -> Finding:
    if case.heatmaps is None:
        return case.no_heatmaps("weights", "needs dumps of both, with their settings.json")
    records = [record for record in (case.a.records[0], case.b.records[0]) if record]
    if len(records) < 2:
        return Finding("weights", NOT_TESTED, "needs settings.json beside the dumps of both, which name the models")
    names = [f"{record['model']} ({record['model_sha256'][:12]}, {record['backend']})" for record in records]
    if records[0]["model_sha256"] == records[1]["model_sha256"]:
        return Finding("weights", RULED_OUT, f"both were made by {names[0]}")
    if case.few:
        return Finding("weights", RULED_OUT, f"{case.share}; other weights would change everybody")
    return Finding("weights", CONSISTENT, f"the dumps were made by {names[0]} and {names[1]}, different files"
                   + whose_model(case, records))


def whose_model(case: Case, records: List[Any]) -> str:
    if case.model is None:
        return ""
    digest = sha256_of_model(case.model.rerun.model)
    sides = [side for side, record in zip("ab", records) if record["model_sha256"] == digest]
    return f"; --model is that of {sides[0]}" if sides else "; --model is neither"
