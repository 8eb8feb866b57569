"""detect.py: photographs to detections, stopped and continued, refused and reused."""
from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from detection_cases import random_weights, tiny_cfg

from contract.errors import UserError
from detection import detector as detector_module
from detection.darknet import read_cfg, write_weights
from detection.decoding import Thresholds, anchor_rows, find_people
from detection.detector import Detector, detect_folder
from detection.letterbox import boxes_to_photograph, letterbox, network_input
from pose.crops import read_photograph

pytest.importorskip("onnxruntime")

IDS = (7, 139, 285, 1000, 2006, 11197, 400001)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Seven noisy photographs of different sizes, and a small network of one class that finds boxes in them."""
    folder = tmp_path_factory.mktemp("detect")
    photographs = folder / "coco" / "val2017"
    photographs.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for image_id in IDS:
        height, width = rng.integers(40, 200, 2)
        image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (int(width), int(height)))
        cv2.imwrite(str(photographs / f"{image_id:012d}.jpg"), image)
    (photographs / "readme.txt").write_text("not a photo")
    (folder / "net.cfg").write_text(tiny_cfg(classes=1))
    network = read_cfg(folder / "net.cfg")
    weights = random_weights(network)
    for arrays in weights:  # mild heads: some rows on either side of the threshold
        if "scale" not in arrays:
            arrays["kernel"] *= 0.2
            arrays["bias"][4::6] -= 2
    write_weights(folder / "net.weights", network, weights)
    return folder


@pytest.fixture
def images(case, tmp_path):
    """A copy of the photographs that a test may spoil."""
    return shutil.copytree(case / "coco" / "val2017", tmp_path / "images")


def small_detector(case, **changes) -> Detector:
    return Detector(**{"weights": case / "net.weights", "cfg": case / "net.cfg", **changes})


@pytest.fixture(scope="module")
def expected(case):
    """One photograph after another, by the pieces that other tests hold to their rules."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from detection.darknet import read_weights
    from detection.onnx_graph import build_onnx

    network = read_cfg(case / "net.cfg")
    model = build_onnx(network, read_weights(case / "net.weights", network)).SerializeToString()
    session, records = onnxruntime.InferenceSession(model), []
    for image_id in IDS:
        image = read_photograph(case / "coco" / "val2017" / f"{image_id:012d}.jpg")
        rows = session.run(None, {"image": network_input(letterbox(image, (96, 64)))[None]})[0][0]
        people = find_people(rows, anchor_rows(network), Thresholds())
        boxes = boxes_to_photograph(people[:, :4], (96, 64), (image.shape[1], image.shape[0]))
        for (x1, y1, x2, y2), score in zip(boxes, people[:, 4]):
            records.append({"category_id": 1, "score": float(score), "bbox": [float(x1), float(y1), float(x2 - x1),
                                                                            float(y2 - y1)], "image_id": image_id})
    assert 20 < len(records) and {record["image_id"] for record in records} == set(IDS)
    return records


def test_the_script_writes_coco_results_in_ascending_id(case, tmp_path, script, expected):
    arguments = ("--dataroot", case / "coco", "--weights", case / "net.weights", "--yolo_cfg", case / "net.cfg",
                 "--output", tmp_path / "out" / "detections.json")
    done = script("detect.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{len(expected)} people on 7 photos" in done.stdout
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == expected
    settings = json.loads((tmp_path / "out" / "detections.json.settings.json").read_text())
    assert settings["confidence"] == 0.1 and settings["nms"] == 0.6 and settings["people"] == len(expected)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["detections.json",
                                                                         "detections.json.settings.json"]
    kept = script("detect.py", *arguments)
    assert kept.returncode == 0 and "kept" in kept.stdout
    refused = script("detect.py", *arguments, "--nms", 0.5)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "nms was 0.6, now 0.5" in refused.stderr


def close_to(expected):
    return [{**record, "score": pytest.approx(record["score"], abs=1e-5),
             "bbox": pytest.approx(record["bbox"], abs=1e-3)} for record in expected]


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_people_do_not_depend_on_the_batch(case, tmp_path, expected, batch):
    """With a last batch that is padded; the crowd rule counts per photograph."""
    detect_folder(case / "coco" / "val2017", tmp_path / "d.json", small_detector(case, batch=batch))
    assert json.loads((tmp_path / "d.json").read_text()) == close_to(expected)


@pytest.mark.parametrize("changes", [{"backend": "pytorch"}, {"backend": "pytorch", "batch": 4}])
def test_people_do_not_depend_on_the_backend(case, tmp_path, expected, changes):
    pytest.importorskip("torch")
    detect_folder(case / "coco" / "val2017", tmp_path / "d.json", small_detector(case, **changes))
    assert json.loads((tmp_path / "d.json").read_text()) == close_to(expected)


def test_parts_are_joined_to_the_bytes_of_one_run(case, tmp_path, expected):
    images = case / "coco" / "val2017"
    detect_folder(images, tmp_path / "one.json", small_detector(case))
    parts = tmp_path / "parts"
    for part in ("2/3", "0/3", "0/3", "1/3"):
        assert not (parts / "d.json").exists()
        detect_folder(images, parts / "d.json", small_detector(case), part=part)
    assert (parts / "d.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert sorted(path.name for path in parts.iterdir()) == ["d.json", "d.json.settings.json"]
    records = [json.loads(path.read_text()) for path in (parts / "d.json.settings.json",
                                                         tmp_path / "one.json.settings.json")]
    assert records[0] == records[1]
    detect_folder(images, parts / "d.json", small_detector(case), part="1/3")  # all is there: nothing is done again
    detect_folder(images, parts / "d.json", small_detector(case))
    assert len(list(parts.iterdir())) == 2
    with pytest.raises(UserError, match="confidence was 0.1, now 0.2"):
        detect_folder(images, parts / "d.json", small_detector(case), Thresholds(confidence=0.2), part="0/3")


def test_an_exported_model_file_and_its_batch(case, tmp_path, expected):
    pytest.importorskip("torch")
    from detection.export import export

    dynamic, static = export(case / "net.cfg", case / "net.weights", tmp_path / "net.onnx", batches=[4])
    for model, batch in ((dynamic, None), (dynamic, 3), (static, None), (static, 4)):
        output = tmp_path / f"{model.stem}_{batch}.json"
        detect_folder(case / "coco" / "val2017", output, small_detector(case, weights=None, model=model, batch=batch))
        assert json.loads(output.read_text()) == close_to(expected)
    with pytest.raises(UserError, match="--batch 3, but the model was made for 4"):
        detect_folder(case / "coco" / "val2017", tmp_path / "d.json",
                      small_detector(case, weights=None, model=static, batch=3))
    (tmp_path / "other.cfg").write_text(tiny_cfg(classes=1, width=128))
    with pytest.raises(UserError, match="its input is N x 3 x 64 x 96, but the config says N x 3 x 64 x 128"):
        detect_folder(case / "coco" / "val2017", tmp_path / "d.json",
                      small_detector(case, weights=None, model=dynamic, cfg=tmp_path / "other.cfg"))


@pytest.mark.parametrize("torn", [False, True])
def test_a_stopped_run_continues(case, tmp_path, monkeypatch, expected, torn):
    images, output = case / "coco" / "val2017", tmp_path / "d.json"
    seen = stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        detect_folder(images, output, small_detector(case))
    progress = tmp_path / "d.json.progress"
    assert not output.exists() and len(progress.read_text().splitlines()) == 4
    if torn:  # killed in the middle of a line
        progress.write_bytes(progress.read_bytes()[:-10])
    with pytest.raises(UserError, match="confidence was 0.1, now 0.2"):
        detect_folder(images, output, small_detector(case), Thresholds(confidence=0.2))
    seen.clear()
    detect_folder(images, output, small_detector(case, batch=2))
    assert seen == list(IDS[2 if torn else 3:])
    assert json.loads(output.read_text()) == close_to(expected) and not progress.exists()


def stop_after(monkeypatch, photographs: int) -> list:
    """Interrupt the first run before it notes down photograph number `photographs`; returns the ids as they come."""
    seen, original = [], detector_module.people_records

    def people_records(item, *arguments):
        if len(seen) == photographs and not stop_after.stopped:
            stop_after.stopped = True
            raise KeyboardInterrupt
        seen.append(item.photograph.image_id)
        return original(item, *arguments)

    stop_after.stopped = False
    monkeypatch.setattr(detector_module, "people_records", people_records)
    return seen


def test_an_unreadable_photograph_is_named_and_can_be_mended_or_left_out(case, images, tmp_path, capsys, expected):
    broken, output = images / "000000001000.jpg", tmp_path / "d.json"
    whole = broken.read_bytes()
    broken.write_bytes(b"no photo")
    with pytest.raises(UserError, match="000000001000.jpg: .*--skip_unreadable"):
        detect_folder(images, output, small_detector(case))
    assert not output.exists()

    detect_folder(images, output, small_detector(case), skip_unreadable=True)
    assert "on 6 photos" in (text := capsys.readouterr().out) and "000000001000.jpg" in text.splitlines()[-1]
    assert json.loads(output.read_text()) == close_to(record for record in expected if record["image_id"] != 1000)
    with pytest.raises(UserError, match="unreadable photos were left out"):
        detect_folder(images, output, small_detector(case))

    broken.write_bytes(whole)
    with pytest.raises(UserError, match="photographs_sha256 was"):
        detect_folder(images, output, small_detector(case), skip_unreadable=True)
    output.unlink()
    detect_folder(images, output, small_detector(case))
    assert json.loads(output.read_text()) == close_to(expected)


def test_a_photograph_mended_between_two_runs_is_the_only_one_detected_again(case, images, tmp_path, monkeypatch):
    (images / "000000011197.jpg").write_bytes(b"no photo")
    with pytest.raises(UserError):
        detect_folder(images, tmp_path / "d.json", small_detector(case))
    shutil.copy(case / "coco" / "val2017" / "000000011197.jpg", images)
    seen = stop_after(monkeypatch, 99)
    detect_folder(images, tmp_path / "d.json", small_detector(case))
    assert seen == [11197, 400001]


def test_detections_of_other_origin_are_neither_reused_nor_replaced(case, images, tmp_path):
    output = tmp_path / "d.json"
    output.write_text("[]")
    with pytest.raises(UserError, match="was not made here"):
        detect_folder(images, output, small_detector(case))
    output.unlink()
    detect_folder(images, output, small_detector(case))
    before = output.read_bytes()

    other = tmp_path / "other.weights"
    content = bytearray((case / "net.weights").read_bytes())
    content[100] ^= 1
    other.write_bytes(content)
    for changed, word in (({"weights": other}, "weights_sha256"), ({"backend": "pytorch"}, "backend")):
        with pytest.raises(UserError, match=f"{word} was"):
            detect_folder(images, output, small_detector(case, **changed))
    (images / "000000000285.jpg").unlink()
    with pytest.raises(UserError, match="photographs_sha256 was"):
        detect_folder(images, output, small_detector(case))
    assert output.read_bytes() == before
    output.write_bytes(before.replace(b"1", b"2", 1))
    shutil.copy(case / "coco" / "val2017" / "000000000285.jpg", images)
    with pytest.raises(UserError, match="content has changed"):
        detect_folder(images, output, small_detector(case))


@pytest.mark.parametrize(("spoil", "words"), [
    (lambda images: [path.unlink() for path in images.glob("*.jpg")], "no photos"),
    (lambda images: shutil.rmtree(images), "no such folder"),
    (lambda images: (images / "000000000007.jpg").rename(images / "frame_7.jpg"), "frame_7.jpg: expected"),
    (lambda images: shutil.copy(images / "000000000007.jpg", images / "7.jpg"), "the number of"),
])
def test_bad_folders_are_refused(case, images, tmp_path, spoil, words):
    spoil(images)
    with pytest.raises(UserError, match=words):
        detect_folder(images, tmp_path / "d.json", small_detector(case))
    assert not (tmp_path / "d.json").exists()


def test_bad_weights_are_refused_in_one_line(case, images, tmp_path, script):
    short = tmp_path / "short.weights"
    short.write_bytes((case / "net.weights").read_bytes()[:-4])
    for weights, words in ((short, "expected"), (tmp_path / "none.weights", "none.weights")):
        refused = script("detect.py", "--images", images, "--weights", weights, "--yolo_cfg", case / "net.cfg",
                         "--output", tmp_path / "d.json")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and words in refused.stderr
    with pytest.raises(UserError, match="either its --weights or a --model"):
        detect_folder(images, tmp_path / "d.json", small_detector(case, weights=None))
    assert not list(tmp_path.glob("d.json*"))


def test_a_network_that_gives_no_numbers_is_refused(case, images, tmp_path, monkeypatch):
    monkeypatch.setattr(detector_module, "infer_rows", lambda backend, rows, batch: np.full((1, 72, 6), np.nan))
    with pytest.raises(UserError, match="000000000007.jpg: the network's output holds NaN"):
        detect_folder(images, tmp_path / "d.json", small_detector(case))


def test_replace_begins_anew_but_spares_a_file_of_others(case, tmp_path, expected):
    images, output = case / "coco" / "val2017", tmp_path / "detections.json"
    detect_folder(images, output, small_detector(case), Thresholds(confidence=0.5))
    detect_folder(images, output, small_detector(case), replace=True)
    assert json.loads(output.read_text()) == close_to(expected)
    (tmp_path / "detections.json.settings.json").unlink()
    with pytest.raises(UserError, match="was not made here"):
        detect_folder(images, output, small_detector(case), replace=True)
    assert output.exists()


def test_limit_takes_the_first_photographs(case, tmp_path, expected):
    output = tmp_path / "detections.json"
    detect_folder(case / "coco" / "val2017", output, small_detector(case), limit=2)
    assert json.loads(output.read_text()) == close_to([one for one in expected if one["image_id"] in IDS[:2]])
