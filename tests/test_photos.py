"""Photos, whatever they are called and only complete ones; detections and manifests as people bring them."""
from __future__ import annotations

import json
import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest
from conftest import done, make_coco, one_error

from contract.errors import UserError
from contract.manifest import load_manifest
from pose.annotations import annotations_path
from pose.coco import load_detections
from pose.photos import Photos, open_photos, read_photograph
from pose.picture_header import MOST_PIXELS

NAMES = ("1.jpg", "000000000002.png", "000000000003.JPG", "000000000004.jpeg", "1699999999005.jpg")
FILM = b"\0\0\0\x18ftypmp42" + bytes(8000)
ROW = {"category_id": 1, "bbox": [9, 9, 99, 99], "score": 0.9}


def picture(seed: int = 0, suffix: str = ".jpg", quality: int = 95) -> bytes:
    noise = cv2.resize(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8), (160, 120))
    return cv2.imencode(suffix, noise, [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [])[1].tobytes()


@pytest.fixture()
def folder(tmp_path):
    (tmp_path / "val2017").mkdir()
    return tmp_path / "val2017"


def fill(folder, *names: str) -> None:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture(seed, ".png" if name.endswith("png") else ".jpg"))


@pytest.mark.parametrize("name, image_id", list(zip(NAMES, (1, 2, 3, 4, 1699999999005))))
def test_a_number_names_a_photo_in_every_stage(folder, tmp_path, main, small_cfg, name, image_id):
    fill(folder, name)
    assert Photos(folder).all() == {image_id: folder / name}
    (tmp_path / "d.json").write_text(json.dumps([{"image_id": image_id, **ROW}]))
    output = done(main("preprocess", "--dataroot", tmp_path, "--detections", tmp_path / "d.json", "--cfg", small_cfg,
                       "--output", tmp_path / "a", "--output_flip", tmp_path / "b"))
    assert "1 people of 1 photos: 1 bins written" in output


@pytest.mark.parametrize("written, there", [
    ("a b.jpg", "a b.jpg"), ("人.jpg", "人.jpg"), ("cam1/x.jpg", "cam1/x.jpg"), ("val2017/x.jpg", "x.jpg"),
    ("C:\\photos\\x.jpg", "x.jpg"), ("/home/somebody/x.jpg", "x.jpg"), ("../../x.jpg", "x.jpg"), ("x.bmp.jpg",) * 2])
def test_file_name_decides_and_stays_in_the_folder(folder, written, there):
    fill(folder, there, "000000000007.jpg")
    (folder.parent / "x.jpg").write_bytes(b"outside")
    assert Photos(folder, {7: {"file_name": written}}).path(7) == folder / there


@pytest.mark.parametrize("entries, words", [
    ({1: {"file_name": "a.jpg"}, 2: {"file_name": "a.jpg"}}, "photos 1 and 2 are both called 'a.jpg'"),
    ({1: {"file_name": "b.jpg"}}, "b.jpg: no such photo, but it is photo 1"), ({}, "no such photo, nor another file"),
    ({1: {"file_name": ""}}, "no such photo")])
def test_names_that_lead_nowhere(folder, entries, words):
    fill(folder, "a.jpg")
    with pytest.raises(UserError, match=words):
        Photos(folder, entries).path(1)


def test_ids_that_a_tool_has_renumbered(own_coco, preprocess, tmp_path):
    """The crops of id 25 are those of the file that the annotation gives it, not of 000000000025.jpg."""
    expected = json.loads(annotations_path(own_coco).read_text())
    done(preprocess("--gt_boxes", "--output", tmp_path / "first", "--output_flip", tmp_path / "first_flip"))
    swapped = {3: 25, 14: 14, 25: 3}
    for row in expected["images"]:
        row["id"] = swapped[row["id"]]
    for row in expected["annotations"]:
        row["image_id"] = swapped[row["image_id"]]
    annotations_path(own_coco).write_text(json.dumps(expected))
    done(preprocess("--gt_boxes"))
    first, second = (load_manifest(tmp_path / name / "manifest.json") for name in ("first", "out"))
    for row, (image_id, box) in enumerate(zip(second["image_id"].tolist(), second["bbox_xywh"].tolist())):
        same = first["bbox_xywh"].tolist().index(box)
        assert first["image_id"][same] == swapped[image_id]
        assert (tmp_path / "out" / f"{row:012d}.bin").read_bytes() == \
            (tmp_path / "first" / f"{same:012d}.bin").read_bytes()


@pytest.mark.parametrize("options", [["--gt_boxes"], []])
def test_a_size_that_is_not_annotated_is_refused(own_coco, preprocess, options):
    content = json.loads(annotations_path(own_coco).read_text())
    for image in content["images"][1:2]:
        image["width"], image["height"] = image["height"], image["width"]
    annotations_path(own_coco).write_text(json.dumps(content))
    assert "000000000014.jpg: photo 14 is 160x128, but its annotation says 128x160" in one_error(preprocess(*options))


def test_photos_and_annotations_at_paths_of_their_own(own_coco, preprocess, tmp_path, prepared):
    shutil.move(own_coco / "val2017", tmp_path / "photos")
    shutil.move(annotations_path(own_coco), tmp_path / "people.json")
    paths = ("--images", tmp_path / "photos", "--annotations", tmp_path / "people.json")
    assert "12 people" in done(preprocess(*paths))
    assert (tmp_path / "out" / "000000000003.bin").read_bytes() == \
        (prepared / "prep_data" / "000000000003.bin").read_bytes()
    assert "4 people" in done(preprocess(*paths, "--limit", 1, "--replace"))
    assert "no such annotations" in one_error(preprocess("--images", tmp_path / "photos", "--annotations", "no.json"))


def test_limit_without_annotations_takes_the_first_of_the_folder(own_coco, preprocess):
    shutil.rmtree(own_coco / "annotations")
    assert "8 people of 2 photos" in done(preprocess("--limit", 2))


def test_names_that_are_no_numbers_are_numbered_and_told(folder, tmp_path):
    from detection.detector import find_photographs

    fill(folder, "b.jpg", "a.png")
    assert [(photo.image_id, photo.file_name) for photo in find_photographs(folder)] == [(1, "a.png"), (2, "b.jpg")]
    (tmp_path / "d.json").write_text(json.dumps([{"image_id": 2, "file_name": "b.jpg", **ROW}]))
    photos = Photos(folder)
    photos.add_names(load_detections(tmp_path / "d.json").file_names)
    assert photos.path(2) == folder / "b.jpg"
    with pytest.raises(UserError, match="photo 2 is called 'a.png' in the annotations and 'b.jpg' in the detections"):
        Photos(folder, {2: {"file_name": "a.png"}}).add_names({2: "b.jpg"})
    (folder / "3.jpg").write_bytes(picture())
    with pytest.raises(UserError, match="a.png: expected a name"):
        find_photographs(folder)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("trailer", [FILM, bytes(99), picture(3), b"SEFT" * 3000],
                         ids=["film", "zeros", "photo", "text"])
def test_what_follows_the_end_is_of_no_concern(tmp_path, suffix, trailer):
    whole = picture(1, suffix)
    (tmp_path / "m").write_bytes(whole + trailer)
    expected = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    np.testing.assert_array_equal(read_photograph(tmp_path / "m"), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("end", [lambda rest: bytes(1200) + rest[1200:], lambda rest: rest[99:],
                                 lambda rest: rest[:-300], lambda rest: FILM],
                         ids=["zeros in the middle", "bytes lost in the middle", "cut short", "cut, with a film"])
def test_damaged_photos_are_named(tmp_path, suffix, end, capfd):
    path, whole = tmp_path / f"000000000009{suffix}", picture(2, suffix)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + end(whole[middle:]))
    with pytest.raises(UserError, match=rf"000000000009{suffix}: .*whole photo"):
        read_photograph(path)
    assert "Corrupt" not in capfd.readouterr().err, "in the one line of the error, and not beside it"


def test_damage_is_told_of_the_right_photo_among_many(tmp_path, capfd):
    """Eight threads decode at once, and libjpeg names no photo."""
    from concurrent.futures import ThreadPoolExecutor

    whole = picture(2)
    for number in range(80):
        middle = len(whole) // 2 if number % 5 == 0 else len(whole)
        end = bytes(1200) + whole[middle + 1200:] if number % 5 == 0 else b""
        (tmp_path / f"{number}.jpg").write_bytes(whole[:middle] + end)

    def is_refused(number: int) -> bool:
        try:
            read_photograph(tmp_path / f"{number}.jpg")
        except UserError as error:
            return "Corrupt JPEG data" in str(error)
        return False

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(is_refused, range(80))) == [number % 5 == 0 for number in range(80)]
    assert capfd.readouterr().err == ""


def test_what_others_say_on_stderr_is_passed_on(tmp_path, capfd, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(picture())
    imdecode = cv2.imdecode

    def talkative(*arguments):
        import os
        os.write(2, b"from another thread\n")
        return imdecode(*arguments)

    monkeypatch.setattr(cv2, "imdecode", talkative)
    read_photograph(tmp_path / "a.jpg")
    assert capfd.readouterr().err == "from another thread\n"


def bomb(width: int, height: int, suffix: str) -> bytes:
    """A file that claims a size: a JPEG whose frame header was changed, or a PNG of no rows."""
    if suffix == ".jpg":
        content = picture()
        at = content.index(b"\xff\xc0") + 5
        return content[:at] + struct.pack(">HH", height, width) + content[at + 4:]
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")),
              (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(
        ">I", zlib.crc32(kind + data)) for kind, data in chunks)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photo_that_would_take_gigabytes_is_not_decoded(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    (tmp_path / "a").write_bytes(bomb(32000, 32000, suffix))
    with pytest.raises(UserError, match=f"a: 32000x32000 pixels, expected at most {MOST_PIXELS}"):
        read_photograph(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\xff\xd8" + b"\xff" * 5000, b"GIF89a" * 9,
                                     b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xc0\0\x11\x08"], ids=repr)
def test_what_is_no_photo_is_named(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match="a.jpg: "):
        read_photograph(tmp_path / "a.jpg")


def written(tmp_path, rows: list):
    (tmp_path / "d.json").write_text(json.dumps(rows))
    return tmp_path / "d.json"


def test_rows_left_out_are_counted_and_shown(tmp_path, capfd):
    rows = [{"image_id": 1, **ROW, "category_id": category} for category in (1, 3, 3, 17)]
    assert len(load_detections(written(tmp_path, rows))) == 1
    assert "left out 2 of category 3, 1 of category 17; people are category 1" in capfd.readouterr().err


def test_detections_that_are_numbered_from_0(tmp_path):
    rows = [{"image_id": 1, **ROW, "category_id": category} for category in (0, 0, 1)]
    path = written(tmp_path, rows)
    with pytest.raises(UserError, match="row 0: category_id is 0.*numbered from 0.*--person_category 0"):
        load_detections(path)
    assert len(load_detections(path, person=0)) == 2


@pytest.mark.parametrize("changes, words", [
    ({"category_id": "1"}, "row 0: category_id is '1'"), ({"category_id": None}, "row 0: category_id is None"),
    ({"category_id": True}, "row 0: category_id is True"), ({"file_name": 5}, "row 0: file_name is 5"),
    ({"bbox": [0.1, 0.2, 0.3, 0.4]}, "every bbox lies between 0 and 1"),
    ({"image_id": True}, "row 0: image_id is True"), ({"image_id": 2 ** 63}, "row 0: image_id is ")])
def test_detections_of_other_meaning(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        load_detections(written(tmp_path, [{"image_id": 1, **ROW, **changes}]))


def test_one_photo_of_two_names(tmp_path):
    rows = [{"image_id": 1, **ROW, "file_name": name} for name in ("a.jpg", "b.jpg")]
    with pytest.raises(UserError, match="row 1: photo 1 is called 'b.jpg' here and 'a.jpg' before"):
        load_detections(written(tmp_path, rows))


def test_opencv_5_is_refused_and_the_release_recorded(own_coco, preprocess, prepared, monkeypatch, tmp_path):
    assert load_manifest(prepared / "prep_data" / "manifest.json").settings["opencv"] == cv2.__version__.split(".")[0]
    monkeypatch.setattr(cv2, "__version__", "5.0.0")
    assert "this is OpenCV 5.0.0" in one_error(preprocess()) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("change, words", [
    (lambda rows, settings: rows[2].update(score=float("nan")), "row 2: score is nan"),
    (lambda rows, settings: rows[2].update(crop_xyxy=[1, 2, float("inf"), 4]), "row 2: crop_xyxy is "),
    (lambda rows, settings: rows[2].update(bbox_xywh=[1, 2, 3, -float("inf")]), "row 2: bbox_xywh is "),
    (lambda rows, settings: rows[2].update(score=None), "row 2: score is nan"),
    (lambda rows, settings: rows[2].update(image_id="x"), "not a manifest"),
    (lambda rows, settings: rows[2].pop("score"), "not a manifest"),
    (lambda rows, settings: rows.clear(), "no rows"),
    (lambda rows, settings: settings.update(batch=0), "batch 0"),
    (lambda rows, settings: settings.update(batch=1.5), "batch"),
    (lambda rows, settings: settings.update(batch=[1]), "batch"),
    (lambda rows, settings: settings.update(mirrored="no"), "mirrored 'no'"),
    (lambda rows, settings: settings.update(dtype="object"), "dtype 'object'"),
    (lambda rows, settings: settings.update(config=[]), "config is"),
    (lambda rows, settings: settings.update(config={"depth": 3}), "config is"),
    (lambda rows, settings: settings.pop("boxes"), "not a manifest of people"),
    (lambda rows, settings: settings.update(images=[3, 999]), "has no photo 999, which the manifest's images name"),
    (lambda rows, settings: settings.update(images=[]), "expected a list of ids"),
    (lambda rows, settings: settings.update(images={"3": 1}), "expected a list of ids"),
    (lambda rows, settings: rows[2].update(image_id=999), "has no photo 999, which the detections name")])
def test_a_manifest_whose_values_were_changed(work, postprocess, change, words):
    path = work / "prep_data" / "manifest.json"
    content = json.loads(path.read_text())
    change(content["rows"], content)
    path.write_text(json.dumps(content))
    assert words in one_error(postprocess())
    assert not (work / "score").exists()


@pytest.mark.parametrize("options", [["--atol", "nan"], ["--rtol", "inf"], ["--limit", "cosine=nan"], ["--atol", "-1"]])
def test_tolerances_that_nothing_could_break(work, main, options):
    dumps = f"{work}/results/all"
    assert "expected a finite number" in one_error(main("compare", dumps, dumps, "--manifest",
                                                        work / "prep_data" / "manifest.json", *options))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-5", '"fast"', "[1]"])
def test_speeds_that_none_can_be_are_left_out_and_said(work, postprocess, value):
    path = work / "results" / "all_summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "throughput": "VALUE"}).replace('"VALUE"', value))
    finished = postprocess()
    assert "crops_per_second" not in json.loads((work / "score" / "metrics.json").read_text())["speed"]
    assert "| refused |" in done(finished) and "all_summary.json: throughput is " in finished.stderr


def test_photos_of_the_annotations_are_the_first(own_coco):
    assert open_photos(own_coco).first(2) == [3, 14] == open_photos(make_coco(own_coco / "again")).first(2)
