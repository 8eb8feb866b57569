"""The tables of several jobs, and the published figures beside them."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.arguments import parse_args
from jobs.job import Job
from jobs.tables import boxes_table, results_table

AP_AND_SPEED = {("Ascend310P3", 16): ("0.7147", "1772"), ("Ascend310P3", 4): ("0.7147", "1642"),
                ("Ascend310", 16): ("0.7150", "643"), ("cpu", 16): ("-", "-")}


@pytest.fixture()
def job(tmp_path):
    """A job whose metrics are there, as postprocess.py leaves them."""
    args = parse_args(["--targets", "cpu", "--work", str(tmp_path)])

    def make(target: str, batch: int = 16, label: str = "", model: str = "fast_res50_256x192_bs16.om", ap: float = 0.5,
             limit: int = None) -> Job:
        job = Job(target=target, runner="", batch=batch, dataroot=args.dataroot, checkpoint=args.checkpoint,
                  cfg=Path(__file__).parent.parent / args.cfg, weights=args.weights, yolo_cfg=args.yolo_cfg,
                  work=tmp_path, label=label, limit=limit)
        job.score.mkdir(parents=True)
        job.metrics.write_text(json.dumps({
            "metrics": {"AP": ap, "AP50": 0.75, "AR": 0.625}, "settings": {"boxes": "detections", "flip_test": True},
            "dumps": [{"model": model, "device": target, "backend": "acl", "batch": batch}],
            "speed": {"crops_per_second": 100.0}}))
        return job

    return make


def cells(table: str) -> list:
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    return [dict(zip(head, row)) for row in rows]


@pytest.mark.parametrize("target, batch", AP_AND_SPEED)
def test_published_figures_of_this_network_on_this_device(job, target, batch):
    row, = cells(results_table([job(target, batch)]))
    assert (row["published AP"], row["published crops/s"]) == AP_AND_SPEED[target, batch]
    assert row["AP"] == "0.5000" and row["crops/s in the model"] == "100.0"


def test_published_figures_are_not_of_another_network_or_of_fewer_photos(job):
    demo, few = job("Ascend310P3", 16, model="fastpose_small_bs16.om"), job("Ascend310P3", 4, limit=100)
    rows = cells(results_table([demo, few]))
    assert [(row["published AP"], row["published crops/s"]) for row in rows] == [("-", "-"), ("-", "1642")]


def test_published_figures_do_not_stand_beside_emulated_ones(job):
    emulated = job("Ascend310P3")
    emulated.metrics.write_text(json.dumps({**json.loads(emulated.metrics.read_text()), "emulated": True}))
    row, = cells(results_table([emulated]))
    assert (row["AP"], row["published AP"], row["published crops/s"]) == ("0.5000 (emulated)", "-", "-")


def test_a_row_per_batch_and_a_column_for_several_targets(job):
    one = [job("Ascend310P3", batch) for batch in (1, 16)]
    assert [row["batch"] for row in cells(results_table(one))] == ["1", "16"]
    assert "target" not in cells(results_table(one))[0]
    assert [row["target"] for row in cells(results_table([one[1], job("cpu")]))] == ["Ascend310P3", "cpu"]


def test_both_kinds_of_boxes_stand_in_one_row(job):
    jobs = [job(target, label=f"_{kind}", ap=ap) for kind, ap in (("annotated", 0.75), ("detected", 0.5))
            for target in ("cpu", "gpu")]
    rows = cells(boxes_table(jobs, ["annotated", "detected"]))
    assert [(row["target"], row["AP, annotated boxes"], row["AP, detected boxes"]) for row in rows] == \
        [("cpu", "0.7500", "0.5000"), ("gpu", "0.7500", "0.5000")]


def test_published_figures_do_not_stand_beside_those_of_bytes(job):
    """Whoever published them used float32 bins."""
    of_bytes = job("Ascend310P3")
    metrics = json.loads(of_bytes.metrics.read_text())
    metrics["dumps"][0]["bins"] = {"dtype": "uint8"}
    of_bytes.metrics.write_text(json.dumps(metrics))
    row, = cells(results_table([of_bytes]))
    assert (row["AP"], row["published AP"], row["published crops/s"]) == ("0.5000", "-", "-")
