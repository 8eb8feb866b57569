"""bench.py --target: every way from photos to a score, the bytes it moves, and which is named; the original's row."""
from __future__ import annotations

import pytest
from conftest import done, one_error, write_config

import bench
from benchmarks.one_pass import original_of
from contract.files import read_json
from jobs import ways
from pose.annotations import annotations_path
from pose.spec import load_spec

torch = pytest.importorskip("torch")
pytest.importorskip("onnxsim")


def test_both_forms_are_scored_compared_and_weighed(coco, script, tmp_path):
    from networks.registry import build_network

    cfg = write_config(tmp_path / "narrow.yaml", (64, 32), (16, 8), "TYPE: FastPose, WIDTH: 0.05")
    torch.save(build_network(load_spec(cfg)).state_dict(), tmp_path / "narrow.pth")
    text = done(script("bench.py", "--target", "cpu", "--dataroot", coco, "--checkpoint", tmp_path / "narrow.pth",
                           "--cfg", cfg, "--runners", "onnxruntime", "--precision", "fp32", "--repeat", 1, "--batch", 4,
                           "--output", tmp_path / "out"))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:4]]
    assert [row[:2] for row in rows] == [["onnxruntime fp32", "two folders"], ["onnxruntime fp32", "one pass"]]
    crop, heatmaps = 64 * 32 * 3, 17 * 16 * 8 * 4
    assert [int(row[4]) for row in rows] == [2 * (4 * crop + heatmaps), crop + 17 * 3 * 4]
    assert rows[0][6] == "-" and rows[1][6] in ("yes", "NO")
    assert "the fastest that agrees: onnxruntime fp32, " in text
    assert (tmp_path / "out" / "cpu.md").read_text() == text


def test_ways_are_those_of_installed_runners(monkeypatch, tmp_path):
    """What is not installed gets a line that says how to get it."""
    room = ways.room_of("ncnn", "ncnn")
    monkeypatch.setattr(room, "missing_packages", lambda runner: ["ncnn"])
    args = bench.parse_args(["--target", "cpu", "--runners", "onnxruntime", "ncnn", "pytorch", "--precision", "fp32"])
    found, left_out = ways.ways_of(args, 4, tmp_path)
    assert [way.name for way in found] == [f"{runner} fp32, {form}" for runner in ("onnxruntime", "pytorch")
                                           for form in ("two folders", "one pass")]
    assert left_out == {"ncnn": f"Python has no ncnn: {room.INSTALL}"}


def test_a_way_that_fails_is_left_out_and_the_rest_goes_on():
    class Fake(ways.Way):
        def go(self, build):
            if self.job == "broken":
                raise ways.UserError("it is broken")
            return 1.0

        name = property(lambda self: self.job)

    found = [Fake("good", [], []), Fake("broken", [], [])]
    assert ways.measure(found, 2) == {"broken": "it is broken"}
    assert [way.seconds for way in found] == [[1.0, 1.0], []]


def test_run_and_target_exclude_each_other(script):
    assert "--target" in one_error(script("bench.py"))


def test_the_original_is_given_annotated_and_detected_people(coco, tmp_path):
    args = bench.parse_args(["--target", "cpu", "--dataroot", str(coco)])
    args.work = tmp_path
    annotated = [person for person in read_json(annotations_path(coco), "annotations")["annotations"]
                 if person["num_keypoints"]]
    original = original_of(args)
    assert original.people == len(annotated) + len(read_json(coco / "detections.json", "detections"))
    assert (original.inputs / "val2017").is_dir()
