"""predict.py on pictures: what goes in, what comes out, and what happens when it is stopped or given nonsense."""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest
from conftest import done, one_error

BOXES = ("--box", "20,10,60,100", "--box", "70,20,50,90")


def noise(path: Path, seed: int, height: int = 130, width: int = 160) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture()
def folder(tmp_path) -> Path:
    for number, name in enumerate(("10.jpg", "2.jpg", "deep/er/photo of me.png")):
        noise(tmp_path / "in" / name, number)
    return tmp_path / "in"


@pytest.fixture()
def predict(main, small_cfg, small_model, tmp_path):
    """Run predict.py with a small model and typed boxes."""
    def run(*arguments, boxes=BOXES, output="out"):
        return main("predict", "--cfg", small_cfg, "--model", small_model, *boxes, "--output", tmp_path / output,
                    "--nms", "none", *arguments)
    return run


def results(folder: Path) -> List[dict]:
    return json.loads((folder / "alphapose-results.json").read_text())


def lines(folder: Path) -> List[dict]:
    return [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()][1:-1]


def test_a_folder_in_natural_order_with_pictures_of_everybody(predict, folder, tmp_path):
    said = done(predict(folder))
    names = ["2.jpg", "10.jpg", "deep/er/photo of me.png"]
    assert [person["image_id"] for person in results(tmp_path / "out")] == sorted(2 * names, key=names.index)
    assert [line["image"] for line in lines(tmp_path / "out")] == names
    for name in names:
        drawn = cv2.imread(str((tmp_path / "out/vis" / name).with_suffix(".jpg")))
        before = cv2.imread(str(folder / name))
        assert drawn.shape == before.shape and np.abs(drawn.astype(int) - before).max() > 60
    assert "6 people on 3 images" in said
    person = results(tmp_path / "out")[0]
    assert person["box"] == [20, 10, 60, 100] and len(person["keypoints"]) == 51 and person["idx"] == [0.0]


def test_batches_and_runs_give_the_same_bytes(predict, folder, tmp_path):
    """Alone or with others, in batches of one fixed size: the same numbers to the last digit."""
    done(predict(folder, "--posebatch", 4))
    together = results(tmp_path / "out")
    for name in ("2.jpg", "10.jpg"):
        done(predict(folder / name, "--posebatch", 4, output=name))
        assert results(tmp_path / name) == [person for person in together if person["image_id"] == name]
    done(predict(folder, "--posebatch", 3, output="threes"))
    for one, other in zip(together, results(tmp_path / "threes")):
        difference = np.abs(np.array(one["keypoints"]) - other["keypoints"]).reshape(-1, 3)
        assert difference[:, :2].max() < 1e-2 and difference[:, 2].max() < 1e-5


def test_a_stopped_run_continues_and_another_one_is_not_thrown_away(predict, folder, tmp_path):
    done(predict(folder))
    before = (tmp_path / "out/alphapose-results.json").read_bytes()
    file = tmp_path / "out/people.jsonl"
    header, first, second, third, end = file.read_bytes().splitlines(keepends=True)
    assert json.loads(end) == {"end": True}
    file.write_bytes(  # as of a run that was killed while it wrote the second line
        header + first.replace(b'"box_score": 1.0', b'"box_score": 0.5') + second[:40])
    assert "another flip" in one_error(predict(folder, "--flip"))
    assert file.read_bytes().startswith(header)
    done(predict(folder))
    scores = [person["box_score"] for line in lines(tmp_path / "out") for person in line["people"]]
    assert 0.5 in scores and len(scores) == 6  # the first line was kept, and no other
    done(predict(folder, "--replace"))
    assert (tmp_path / "out/alphapose-results.json").read_bytes() == before
    assert "0 people on 0 images, 3 more kept from before" in done(predict(folder))
    noise(folder / "2.jpg", 77, 90, 120)  # a picture that has changed is done again, and a finished run is replaced
    done(predict(folder))
    assert (tmp_path / "out/alphapose-results.json").read_bytes() != before
    done(predict(folder, "--flip"))


def test_broken_pictures_are_told_and_counted(predict, folder, tmp_path):
    whole = (folder / "2.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[:len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    finished = predict(folder)
    assert "6 people on 3 images, 2 problems" in done(finished)
    assert "broken.jpg" in finished.stderr and "empty.png" in finished.stderr
    assert {line["image"] for line in lines(tmp_path / "out")} == {"2.jpg", "10.jpg", "deep/er/photo of me.png"}
    assert "broken.jpg" in one_error(predict(folder / "broken.jpg", output="alone"))


@pytest.mark.parametrize("format_name", ["cmu", "open", "coco"])
def test_formats(predict, folder, tmp_path, format_name):
    done(predict(folder / "2.jpg", folder / "10.jpg", "--format", format_name))
    written = results(tmp_path / "out")
    separate = sorted(path.name for path in (tmp_path / "out").glob("sep-json/*"))
    assert separate == ([] if format_name == "coco" else ["10.json", "2.json"])
    images = [person["image_id"] for person in written] if format_name == "coco" else list(written)
    assert images == ([2, 2, 10, 10] if format_name == "coco" else ["2.jpg", "10.jpg"])


def test_boxes_of_a_file(predict, folder, tmp_path):
    rows = [{"image_id": 10, "category_id": 1, "bbox": [5, 6, 70, 80], "score": 0.75},
            {"image_id": "deep/er/photo of me.png", "bbox": [1, 2, 30, 40]},
            {"image_id": 10, "category_id": 2, "bbox": [5, 6, 7, 8], "score": 1},
            {"image_id": 10, "category_id": 1, "bbox": [5, 6, 7, 8], "score": 0.05}]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    boxes = ("--detections", tmp_path / "boxes.json")
    done(predict(folder / "2.jpg", folder / "10.jpg", boxes=boxes))
    assert [(person["image_id"], person["box"]) for person in results(tmp_path / "out")] == [("10.jpg", [5, 6, 70, 80])]
    assert "number" in one_error(predict(noise(tmp_path / "holiday.jpg", 3), boxes=boxes))
    (tmp_path / "boxes.json").write_text(json.dumps(rows[1:2]))
    done(predict(folder, boxes=boxes, output="named"))
    assert {person["image_id"] for person in results(tmp_path / "named")} == {"deep/er/photo of me.png"}
    (tmp_path / "boxes.json").write_text('[{"image_id": 3, "bbox": [1, 2, 3], "score": 1}]')
    assert "row 0: bbox is [1, 2, 3]" in one_error(predict(folder, boxes=boxes, output="bad"))


def test_oks_nms_and_coco_are_what_postprocess_writes(prepared, coco, small_cfg, small_model, main, tmp_path):
    """The same people as the stages find on their files."""
    photos = coco / "val2017"
    done(main("infer", "--model", small_model, "--input", prepared / "prep_data", "--output", tmp_path,
              "--output_dirname", "dumps", "--cfg", small_cfg))
    done(main("postprocess", "--dataroot", coco, "--dump_dir", tmp_path / "dumps", "--manifest",
              prepared / "prep_data/manifest.json"))
    expected = json.loads((tmp_path / "dumps_score/keypoints.json").read_text())
    done(main("predict", photos, "--cfg", small_cfg, "--model", small_model, "--detections", coco / "detections.json",
              "--nms", "oks", "--format", "coco", "--output", tmp_path / "out", "--no-save_img"))
    found = results(tmp_path / "out")
    assert [person["image_id"] for person in found] == [person["image_id"] for person in expected]
    for key in ("keypoints", "score", "bbox"):
        np.testing.assert_allclose([person[key] for person in found], [person[key] for person in expected], atol=1e-5)
    assert not (tmp_path / "out/vis").exists()


def test_the_sample_and_its_networks(main, tmp_path):
    """No input, no model: everything that comes with the project, detector too. It has four people."""
    said = done(main("predict", "--output", tmp_path / "out"))
    assert "4 people on 1 image;" in said
    assert cv2.imread(str(tmp_path / "out/vis/sample.jpg")).shape == (480, 640, 3)
    warned = main("predict", noise(tmp_path / "photo.jpg", 1), "--output", tmp_path / "photo")
    assert warned.stderr.count("trained on drawn people only") == 1 and "on 1 image;" in done(warned)


def test_named_inputs(predict, folder, tmp_path, monkeypatch):
    import io

    (tmp_path / "list.txt").write_text(f"{folder}/2.jpg\n\n{folder}/10.jpg\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{folder}/10.jpg\n"))
    for number, (arguments, names) in enumerate([((f"{folder}/*.jpg",), ["2.jpg", "10.jpg"]), (("-",), ["10.jpg"]),
                                                 (("--list", tmp_path / "list.txt"), ["2.jpg", "10.jpg"]),
                                                 (("--image", folder / "2.jpg"), ["2.jpg"])]):
        done(predict(*arguments, output=f"out{number}"))
        assert [line["image"] for line in lines(tmp_path / f"out{number}")] == names
    other = noise(tmp_path / "other/2.jpg", 9)
    done(predict(folder / "2.jpg", other, output="both"))
    assert [line["image"] for line in lines(tmp_path / "both")] == ["2.jpg", str(other).lstrip("/")]
    assert len(list((tmp_path / "both/vis").rglob("2.jpg"))) == 2


def test_a_second_run_does_not_take_its_own_pictures_for_inputs(predict, folder, tmp_path):
    for _ in range(2):
        done(predict(tmp_path / "in", output="in/out"))
    assert len(lines(tmp_path / "in/out")) == 3


@pytest.mark.parametrize("arguments, message", [
    (("nowhere.jpg",), "nowhere.jpg: no such picture, video or folder"),
    (("EMPTY",), "no pictures in it"), (("EMPTY/*.jpg",), "nothing matches it"), (("README.md",), "expected a picture"),
    (("--box", "1,2,3"), "expected X,Y,W,H"), (("--box", "1,2,3,-4"), "expected X,Y,W,H"),
    (("README.md", "--detections", "x.json"), "give one of them")])
def test_bad_input_is_one_line(predict, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    arguments = [str(argument).replace("EMPTY", str(tmp_path / "empty")) for argument in arguments]
    assert message in one_error(predict(*arguments))


def test_a_problem_is_told_once(predict, tmp_path):
    """Alone it is the error; else it is a note, and the error counts."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    assert predict(tmp_path / "a.jpg", output="one").stderr.count("a.jpg") == 1
    finished = predict(tmp_path / "a.jpg", tmp_path / "b.jpg", output="two")
    assert finished.stderr.count("note: ") == 2 and "2 problems, and no image" in finished.stderr.splitlines()[-1]
    good = noise(tmp_path / "c.jpg", 1)
    assert predict(tmp_path / "a.jpg", good, output="three").stderr.count("a.jpg") == 1


def test_a_picture_of_one_pixel_and_one_that_is_too_large(predict, tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), np.full((1, 1, 3), 9, np.uint8))
    assert "on 1 image;" in done(predict(tmp_path / "one.png"))
    huge = noise(tmp_path / "huge.png", 5).read_bytes()
    size = np.array([20000, 20000], ">u4").tobytes()
    (tmp_path / "huge.png").write_bytes(huge[:16] + size + huge[24:])
    assert "20000x20000 pixels" in one_error(predict(tmp_path / "huge.png", output="huge"))


@pytest.fixture()
def read_only(tmp_path):
    """A folder that nobody may write to: root may write into any but those of a read-only disk."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    if os.getuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True).returncode != 0:
        pytest.skip("no right to mount a read-only disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_an_output_that_cannot_be_written_is_one_line(predict, folder, read_only):
    assert str(read_only) in one_error(predict(folder, output=read_only / "out"))
    assert str(read_only) in one_error(predict(folder, output=read_only))


def test_a_missing_detector_says_what_to_give(main, small_cfg, small_model, tmp_path):
    error = one_error(main("predict", noise(tmp_path / "a.jpg", 1), "--cfg", small_cfg, "--model", small_model,
                           "--output", tmp_path / "out"))
    assert "--weights" in error and "--detections" in error


def test_names_without_numbers_are_told_at_once(predict, folder):
    for flags in (("--eval",), ("--format", "coco")):
        assert "photo of me.png: expected a name that ends in a number" in one_error(predict(folder, *flags))


def test_pictures_that_would_share_a_drawing_keep_their_suffix(predict, tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg"):
        noise(tmp_path / "in" / name, 3)
    done(predict(tmp_path / "in"))
    assert sorted(path.name for path in (tmp_path / "out/vis").iterdir()) == ["a.jpg", "a.png.jpg", "b.jpg"]
