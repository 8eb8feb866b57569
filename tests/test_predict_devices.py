"""predict.py on every backend, with AlphaPose_TRT's own command lines; GPU and NPU are emulated."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, done, one_error, patch_model
from test_predict import results

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from tests.emulator import environment  # noqa: E402

YOLO = ("--yolo_cfg", ROOT / "configs/demo_yolov3_tiny.cfg")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two drawn scenes, three people or more."""
    from demo.scenes import render_scene

    folder = tmp_path_factory.mktemp("photos")
    for number in (15, 18):
        cv2.imwrite(str(folder / f"{number}.jpg"), render_scene([17, number]).image[:, :, ::-1])
    return folder


@pytest.fixture(scope="module")
def reference(photos, small_cfg, small_model, script, tmp_path_factory):
    """What onnxruntime finds with the detector's own weights."""
    folder = tmp_path_factory.mktemp("reference")
    done(script("predict.py", photos, "--cfg", small_cfg, "--model", small_model, "--weights",
                ROOT / "demo/yolov3_demo.weights", *YOLO, "--output", folder))
    assert len(results(folder)) >= 4
    return results(folder)


def same(found, expected) -> None:
    assert [person["image_id"] for person in found] == [person["image_id"] for person in expected]
    for one, other in zip(found, expected):
        difference = np.abs(np.array(one["keypoints"]) - other["keypoints"]).reshape(-1, 3)
        assert difference[:, :2].max() < 1e-2 and difference[:, 2].max() < 1e-5


@pytest.fixture()
def trt_inference(small_cfg, small_model, main, tmp_path):
    """AlphaPose_TRT's command with two engines, on the emulator."""
    pytest.importorskip("tests.tensorrt_emulator")
    from tensorrt_cases import build_engine, gpu

    done(main("detection.export", ROOT / "configs/demo_yolov3_tiny.cfg", ROOT / "demo/yolov3_demo.weights",
              tmp_path / "yolo.onnx", "--batch", 2))
    yolo = build_engine(tmp_path / "yolo_bs2.onnx", tmp_path / "yolo.engine")
    pose = build_engine(small_model, tmp_path / "pose.engine", [(1, 4, 8)])

    def run(*arguments: object):
        with gpu():
            return main("predict", "--yolo_engine", yolo, "--pose_engine", pose, "--cfg", small_cfg, *arguments, *YOLO,
                        "--outdir", tmp_path / "out")

    return run


@pytest.mark.parametrize("flags", [("--dll_file", "build/ScatterND.so"), ("--showbox", "--detector", "yolo_trt")])
def test_two_engines(photos, reference, trt_inference, tmp_path, flags):
    """trt_inference.py --yolo_engine --pose_engine --cfg --save_img --indir."""
    finished = trt_inference("--save_img", "--indir", photos, *flags)
    done(finished)
    assert ("--dll_file: no plugin is needed" in finished.stderr) == ("--dll_file" in flags)
    same(results(tmp_path / "out"), reference)
    assert len(list((tmp_path / "out/vis").iterdir())) == 2


def test_two_engines_on_a_film(photos, trt_inference, small_cfg, small_model, main, tmp_path):
    """trt_inference.py --yolo_engine --pose_engine --cfg --save_video --video --detector yolo_trt: drawn in mp4."""
    pytest.importorskip("av")
    from prediction.video import VideoReader, VideoWriter

    images = [cv2.imread(str(photos / f"{number}.jpg"))[..., ::-1] for number in (15, 18)]
    writer = VideoWriter(tmp_path / "demo.mp4", Fraction(10), None)
    for number in range(6):
        writer.add(images[number // 3], number)
    writer.close()
    (tmp_path / "demo.mp4").rename(tmp_path / "demo.avi")  # FFmpeg goes by the content
    done(trt_inference("--save_video", "--video", tmp_path / "demo.avi", "--detector", "yolo_trt"))
    done(main("predict", tmp_path / "demo.avi", "--cfg", small_cfg, "--model", small_model, "--weights",
              ROOT / "demo/yolov3_demo.weights", *YOLO, "--no-save_video", "--output", tmp_path / "cpu"))
    assert len(results(tmp_path / "cpu")) >= 12
    same(results(tmp_path / "out"), results(tmp_path / "cpu"))
    assert len(list(VideoReader(str(tmp_path / "out/vis/demo.mp4")).pictures())) == 6


def test_detector_yolo_is_the_plain_one_even_beside_an_engine(photos, small_cfg, small_model, main, tmp_path):
    """--detector yolo --yolo_engine: the default weights, which are not there."""
    error = one_error(main("predict", "--yolo_engine", tmp_path / "y.engine", "--pose_engine", small_model, "--cfg",
                           small_cfg, "--indir", photos, "--detector", "yolo", "--output", tmp_path))
    assert "models/yolov3-spp.weights: no such detector" in error


def test_a_checkpoint(photos, main, tmp_path):
    """inference.py --cfg --checkpoint --save_img --showbox --indir: the results lie in examples/res."""
    pytest.importorskip("torch")
    command = [sys.executable, ROOT / "predict.py", "--cfg", ROOT / "configs/demo_fastpose.yaml", "--checkpoint",
               ROOT / "demo/fastpose_small.pth", "--save_img", "--showbox", "--indir", photos, "--weights",
               ROOT / "demo/yolov3_demo.weights", *YOLO]
    done(subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True))
    assert len(results(tmp_path / "examples/res")) >= 4
    assert sorted(path.name for path in (tmp_path / "examples/res/vis").iterdir()) == ["15.jpg", "18.jpg"]


def test_an_om(photos, small_cfg, main, tmp_path):
    env = environment()

    def run(*command: object) -> str:
        return done(subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=env, capture_output=True,
                                   text=True))

    model = patch_model(tmp_path / "m.onnx", 4)
    run("-m", "ascend.atc", model, "--soc_version", "Ascend310P3")
    arguments = (photos, "--cfg", small_cfg, "--box", "20,30,100,200", "--box", "300,100,90,180", "--nms", "none")
    run("predict.py", *arguments, "--model", tmp_path / "m.om", "--output", tmp_path / "npu")
    done(main("predict", *arguments, "--model", model, "--output", tmp_path / "cpu"))
    same(results(tmp_path / "npu"), results(tmp_path / "cpu"))


def test_a_model_of_no_known_kind(photos, small_cfg, main, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"0")
    assert "does not tell what runs it" in one_error(
        main("predict", photos, "--cfg", small_cfg, "--model", tmp_path / "m.bin", "--box", "1,2,30,40", "--output",
             tmp_path / "out"))


def test_a_batch_that_the_model_was_not_made_for(photos, small_cfg, main, tmp_path):
    model = patch_model(tmp_path / "m.onnx", 4)
    assert "takes batches of 4, but --posebatch is 3" in one_error(
        main("predict", photos, "--cfg", small_cfg, "--model", model, "--box", "1,2,30,40", "--posebatch", 3,
             "--output", tmp_path / "out"))


def test_the_device_of_each_network_is_used_in_one_thread(small_cfg, small_model, photos, monkeypatch, main, tmp_path):
    """Opened, run and closed where its context is."""
    import threading

    from backends.onnxruntime.backend import Backend

    seen = {"open": set(), "infer": set(), "close": set()}

    def watched(name, method):
        def call(self, *arguments, **options):
            seen[name].add(threading.get_ident())
            return method(self, *arguments, **options)
        return call

    for name, attribute in (("open", "__init__"), ("infer", "infer"), ("close", "close")):
        monkeypatch.setattr(Backend, attribute, watched(name, getattr(Backend, attribute)))
    done(main("predict", photos, "--cfg", small_cfg, "--model", small_model, "--box", "20,30,100,200", "--output",
              tmp_path / "out"))
    assert seen["open"] == seen["infer"] == seen["close"] and len(seen["open"]) == 1
    assert threading.get_ident() not in seen["open"]


def test_both_networks_timed_together(photos, small_cfg, small_model, main, tmp_path):
    pair = ("--run", f"onnxruntime:{small_model}", "--detector", f"onnxruntime:{ROOT}/demo/yolov3_demo.weights")
    arguments = ("--pipeline", *pair, "--cfg", small_cfg, *YOLO, "--batch", 1, 2, "--repeat", 1, "--output", tmp_path)
    said = done(main("bench", *arguments, *pair, "--images", photos))
    assert (tmp_path / "pipeline.md").read_text() in said + "\n"
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| onnxruntime")]
    assert [row[1] for row in rows] == ["1", "1", "2", "2"] and [row[6] for row in rows[::2]] == ["1.00", "1.00"]
    for row in rows:
        detector, pose, total = map(float, row[2:5])
        assert total == pytest.approx(detector + pose, abs=0.02)
        assert float(row[5].split()[0]) == pytest.approx(1000 * int(row[1]) / total, rel=0.02)
    assert "expected one of each" in one_error(main("bench", *arguments, "--run", "acl:x.om", "--images", photos))


def test_a_factor_stands_only_where_both_networks_agree(photos, small_cfg, small_model, main, tmp_path):
    detector = ("--detector", f"onnxruntime:{ROOT}/demo/yolov3_demo.weights")
    other = patch_model(tmp_path / "other.onnx", seed=1)
    said = done(main("bench", "--pipeline", "--run", f"onnxruntime:{small_model}", *detector, "--run",
                     f"onnxruntime:{other}", *detector, "--cfg", small_cfg, *YOLO, "--batch", 1, "--repeat", 1,
                     "--images", photos, "--output", tmp_path))
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| onnxruntime")]
    assert rows[0][6] == "1.00" and rows[1][6] == rows[1][8].rstrip(" |") == "outputs differ"


@pytest.fixture(scope="module")
def timed(photos, small_cfg, small_model, script, tmp_path_factory):
    """A round of one pair, and what it is compared with."""
    folder = tmp_path_factory.mktemp("timed")
    shutil.copyfile(small_model, folder / "m.onnx")
    shutil.copytree(photos, folder / "photos")
    done(script("bench.py", "--pipeline", "--run", f"onnxruntime:{folder}/m.onnx", "--detector",
                f"onnxruntime:{ROOT}/demo/yolov3_demo.weights", "--cfg", small_cfg, *YOLO, "--batch", 1, "--repeat", 2,
                "--images", folder / "photos", "--output", folder))
    shutil.copytree(folder, folder.with_name("timed_kept"))
    return folder


@pytest.fixture()
def cheat(timed):
    """Change the round, and say what is found."""
    from contract.run_record import sealed
    from prediction.sources import find_sources
    from prediction.timing_record import find_mismatch

    home = next((timed / "pipeline").glob("0_*bs1"))
    models = {"detector": str(ROOT / "demo/yolov3_demo.weights"), "pose": str(timed / "m.onnx")}
    settings = json.loads((home / "summary.json").read_text())["record"]["settings"]

    def run(change=None, seal=True, files=None, settings=settings):
        if change:
            content = json.loads((home / "summary.json").read_text())
            change(content)
            (home / "summary.json").write_text(json.dumps(sealed(content) if seal else content))
        if files:
            files(home)
        return find_mismatch(home, settings, models, find_sources([str(timed / "photos")], home)[0])

    yield run
    shutil.rmtree(timed)
    shutil.copytree(timed.with_name("timed_kept"), timed)


def rewrite(path: Path, change) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("arguments, words", [
    ({"change": lambda one: one.update(seconds=one["seconds"] / 2), "seal": False}, "changed after the run"),
    ({"change": lambda one: one["pose"].append(1e6)}, "its times add up to"),
    ({"change": lambda one: one.update(seconds=-1.0)}, "its times add up to"),
    ({"change": lambda one: one["record"]["machines"][0].update(ended=0)}, "the clock of the machine was moved"),
    ({"change": lambda one: one["record"].update(crops=200)}, "it counts 200 images, and 2 were done"),
    ({"change": lambda one: one["record"].update(samples=[])}, "0 of its images are hashed"),
    ({"change": lambda one: one.pop("record")}, "its record is none"),
    ({"settings": {}}, "other settings"),
    ({"files": lambda home: rewrite(home / "people.jsonl", lambda text: text.replace(b"0.", b"1.", 1))},
     "are not those that the timed run found"),
    ({"files": lambda home: rewrite(home / "people.jsonl", lambda text: text + text)}, "and 4 were done"),
    ({"files": lambda home: rewrite(home / "pose/0.bin", lambda rows: rows[::-1])}, "pose/0.bin is not what"),
    ({"files": lambda home: rewrite(home.parents[1] / "m.onnx", lambda model: model + b"\0")}, "another model"),
    ({"files": lambda home: rewrite(home.parents[1] / "photos/15.jpg", lambda photo: photo + b"\0")}, "are others"),
    ({"files": lambda home: rewrite(home.parents[1] / "photos/15.jpg", lambda photo: photo[:-1] + b"\0")},
     "15.jpg is another image"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_pipeline_whose_record_does_not_match_is_refused(cheat, arguments, words):
    assert cheat() is None
    assert words in cheat(**arguments)
