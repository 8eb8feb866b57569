"""Bad input to preprocess.py, and bad usage: one clear line, exit code 2, nothing left that is not whole."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import done, one_error, tree, write_config


def edit_detections(coco: Path, change) -> None:
    rows = json.loads((coco / "detections.json").read_text())
    change(rows)
    (coco / "detections.json").write_text(json.dumps(rows))


def test_the_process_ends_with_2_and_one_line(script, tmp_path, small_cfg, small_model):
    for name, options in (("preprocess.py", ["--detections", tmp_path / "no.json"]),
                          ("infer.py", ["--model", small_model, "--output_dirname", "a", "--input", tmp_path]),
                          ("postprocess.py", ["--dump_dir", tmp_path, "--manifest", tmp_path / "no.json"])):
        finished = script(name, *options, *(() if name == "postprocess.py" else ("--cfg", small_cfg)))
        assert one_error(finished) == finished.stderr.strip(), "nothing else on stderr"
        assert finished.stdout == ""


@pytest.mark.parametrize("name, options", [
    ("preprocess", ["--batch", "0"]), ("preprocess", ["--limit", "-1"]), ("preprocess", ["--workers", "0"]),
    ("preprocess", ["--gt_boxes", "--detections", "x"]), ("preprocess", ["--output", "a", "--output_flip", "./a"]),
    ("infer", ["--output_dirname", "a"]), ("infer", ["--model", "a", "--output_dirname", "a", "--batchsize", "0"]),
    ("infer", ["--model", "a", "--output_dirname", "a", "--backend", "abacus"]),
    ("infer", ["--model", "a", "--input", "x/y", "--output", "x", "--output_dirname", "y"]),
    ("postprocess", []), ("postprocess", ["--dump_dir", "a", "--flip_shift", "left"]),
    ("postprocess", ["--dump_dir", "a", "--flip_shift", "original"]),
    ("postprocess", ["--dump_dir", "a", "--workers", "0"]),
    ("postprocess", ["--dump_dir", "a", "--dump_dir_flip", "a/"])])
def test_usage_errors(main, name, options):
    finished = main(name, *options)
    assert finished.returncode == 2 and f"{name}.py: error: " in finished.stderr


def test_a_missing_photograph_is_named_before_anything_is_written(own_coco, preprocess, tmp_path):
    (own_coco / "val2017" / "000000000014.jpg").unlink()
    assert "000000000014.jpg" in one_error(preprocess())
    assert not (tmp_path / "out").exists() and not (tmp_path / "out_flip").exists()


def test_detections_of_a_photograph_that_is_not_in_the_data_set(own_coco, preprocess, tmp_path):
    edit_detections(own_coco, lambda rows: rows[3].update(image_id=777))
    assert "000000000777.jpg" in one_error(preprocess())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [lambda content: b"no photo", lambda content: b"",
                                    lambda content: content[:len(content) // 2]], ids=["text", "empty", "cut short"])
def test_an_unreadable_photograph_leaves_whole_bins_and_can_be_mended(own_coco, prepared, preprocess, tmp_path, damage):
    path = own_coco / "val2017" / "000000000025.jpg"  # the last one
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert "000000000025.jpg" in one_error(preprocess())
    for suffix in ("", "_flip"):
        left, expected = tree(tmp_path / f"out{suffix}"), tree(prepared / f"prep_data{suffix}")
        assert left.keys() - expected.keys() == {"manifest.unfinished.json"} and "manifest.json" not in left
        assert all(expected[name] == digest for name, digest in left.items() if name.endswith(".bin"))
    path.write_bytes(content)
    assert "photographs" in one_error(preprocess())  # other photographs: not mixed in silently
    done(preprocess("--replace"))
    for suffix in ("", "_flip"):
        assert tree(tmp_path / f"out{suffix}") == tree(prepared / f"prep_data{suffix}")


@pytest.mark.parametrize("change, named", [
    (lambda rows: rows[5].update(bbox=[1, 2, float("nan"), 4]), "row 5: bbox"),
    (lambda rows: rows[5].update(bbox=[1, 2, float("inf"), 4]), "row 5: bbox"),
    (lambda rows: rows[5].update(bbox=[1, 2, 3]), "row 5: bbox"), (lambda rows: rows[5].pop("bbox"), "row 5"),
    (lambda rows: rows[5].update(score=None), "row 5: score"), (lambda rows: rows[5].update(image_id="3"), "row 5"),
    (lambda rows: rows.clear(), "0 rows"), (lambda rows: [row.update(category_id=2) for row in rows], "12 rows")])
def test_detections_that_no_box_can_be_taken_from(own_coco, preprocess, tmp_path, change, named):
    edit_detections(own_coco, change)
    assert named in one_error(preprocess())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "{", "[{]", "null", "\x00\xff"])
def test_malformed_json(own_coco, preprocess, tmp_path, text):
    (own_coco / "detections.json").write_bytes(text.encode("latin-1"))
    assert "detections.json" in one_error(preprocess())
    (own_coco / "annotations" / "person_keypoints_val2017.json").write_text(text, encoding="latin-1")
    assert "person_keypoints_val2017.json" in one_error(preprocess("--gt_boxes"))
    assert not (tmp_path / "out").exists()


def test_missing_files_are_named(own_coco, preprocess, tmp_path):
    assert "nowhere.json" in one_error(preprocess("--detections", tmp_path / "nowhere.json"))
    assert "nowhere.yaml" in one_error(preprocess("--cfg", tmp_path / "nowhere.yaml"))
    shutil.rmtree(own_coco / "annotations")
    assert "person_keypoints_val2017.json" in one_error(preprocess("--gt_boxes"))
    assert "nowhere.json" in one_error(preprocess("--limit", 1, "--annotations", tmp_path / "nowhere.json"))
    assert not (tmp_path / "out").exists()


def test_boxes_of_no_or_negative_size_are_cropped_as_alphapose_does_and_said(own_coco, preprocess, tmp_path):
    boxes = [[30, 40, 0, 0], [30, 40, -20, 50], [30, 40, 0, 50], [30, 40, -20, -20]]
    edit_detections(own_coco, lambda rows: [row.update(bbox=box) for row, box in zip(rows, boxes)])
    finished = preprocess()
    assert "12 people" in done(finished) and "note: 4 boxes" in finished.stderr
    no_size = np.fromfile(tmp_path / "out" / "000000000000.bin", np.float32).reshape(3, -1)
    assert (no_size == no_size[:, :1]).all()  # one colour
    assert len(list((tmp_path / "out").glob("*.bin"))) == 12


@pytest.mark.parametrize("other", ["cfg", "batch", "boxes", "unknown bin"])
def test_a_folder_with_bins_of_another_run_is_left_alone(own_coco, preprocess, tmp_path, other):
    done(preprocess())
    options = {"cfg": ["--cfg", write_config(tmp_path / "other.yaml", STD=[1, 1, 2])], "batch": ["--batch", 3],
               "boxes": ["--gt_boxes"], "unknown bin": []}[other]
    if other == "unknown bin":
        (tmp_path / "out_flip" / "000000000099.bin").write_bytes(b"")
    before = tree(tmp_path / "out"), tree(tmp_path / "out_flip")
    assert "let --replace remove them" in one_error(preprocess(*options))
    assert before == (tree(tmp_path / "out"), tree(tmp_path / "out_flip"))
    done(preprocess(*options, "--replace"))
    fresh = ("--output", tmp_path / "fresh", "--output_flip", tmp_path / "fresh_flip")
    done(preprocess(*options, *fresh))
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    assert tree(tmp_path / "out_flip") == tree(tmp_path / "fresh_flip")


def test_an_output_that_is_a_file(preprocess, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert str(tmp_path / "out") in one_error(preprocess())
    assert (tmp_path / "out").read_text() == "mine"


def test_detections_of_corners_are_refused(preprocess, own_coco):
    """Where the annotations tell the sizes of the photos: as sizes the boxes would reach far beyond them."""
    path = own_coco / "detections.json"
    rows = json.loads(path.read_text())
    for row in rows:
        x, y, width, height = row["bbox"]
        x, y = max(x, 0), max(y, 0)
        row["bbox"] = [x, y, min(x + width, 159), min(y + height, 119)]
    path.write_text(json.dumps(rows))
    assert "every bbox looks like left, top, right, bottom" in one_error(preprocess())
