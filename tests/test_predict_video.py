"""predict.py on video: the same frames, times and turns come out, and what is there when it is stopped."""
from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import List, Optional

import numpy as np
import pytest
from conftest import ROOT, done, one_error

av = pytest.importorskip("av")

from prediction.video import VideoReader, fitted  # noqa: E402

BOX = ("--box", "20,10,60,90")


def film(path: Path, frames: int = 12, size=(160, 120), rate: int = 10, times: Optional[List[int]] = None,
         rotation: int = 0) -> Path:
    """A video whose frames get brighter, with a bright left edge."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 10 * rate)
        for number in range(frames):
            image = np.full((size[1], size[0], 3), 20 + 8 * (number % 20), np.uint8)
            image[:, :20] = 250
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = times[number] if times else 10 * number, Fraction(1, 10 * rate)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    if rotation:
        turn(path, rotation)
    return path


def turn(path: Path, degrees: int) -> None:
    """Write a rotation into the display matrix of an .mp4's track header."""
    matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # version, flags, times, ids and volume come before the matrix
    for place, value in zip((0, 4, 12, 16), matrix):
        content[at + place:at + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(content))


def frames_of(path: Path) -> List[tuple]:
    """(seconds, image) of each frame."""
    reader = VideoReader(str(path))
    return [(float(picture.time * reader.time_base), picture.image) for picture in reader.pictures()]


@pytest.fixture()
def predict(main, small_cfg, small_model, tmp_path):
    def run(*arguments, output="out"):
        return main("predict", "--cfg", small_cfg, "--model", small_model, *BOX, "--output", tmp_path / output,
                    *arguments)
    return run


def results(folder: Path) -> List[dict]:
    return json.loads((folder / "alphapose-results.json").read_text())


def test_frames_rate_and_size_stay(predict, tmp_path):
    done(predict(film(tmp_path / "clip.mp4", 12)))
    before, after = frames_of(tmp_path / "clip.mp4"), frames_of(tmp_path / "out/vis/clip.mp4")
    assert VideoReader(str(tmp_path / "out/vis/clip.mp4")).rate == 10
    np.testing.assert_allclose([at for at, _ in after], [at for at, _ in before])
    for (_, old), (_, new) in zip(before, after):
        assert old.shape == new.shape and np.abs(old[110:, 100:].astype(int) - new[110:, 100:]).max() < 12
    assert [person["image_id"] for person in results(tmp_path / "out")] == [f"{number}.jpg" for number in range(12)]


def test_times_of_a_variable_rate_stay(predict, tmp_path):
    times = [0, 10, 25, 70, 75, 120]
    done(predict(film(tmp_path / "clip.mp4", 6, times=times)))
    np.testing.assert_allclose([at for at, _ in frames_of(tmp_path / "out/vis/clip.mp4")], np.array(times) / 100,
                               atol=1e-4)


@pytest.mark.parametrize("rotation, edge", [(90, np.s_[-10:, :]), (180, np.s_[:, -10:]), (270, np.s_[:10, :])])
def test_a_turned_film_is_upright(tmp_path, rotation, edge):
    """The bright left edge is where a player shows it: of 90 degrees at the bottom or top, as FFmpeg's own filter."""
    path = film(tmp_path / "clip.mp4", 2, rotation=rotation)
    image = frames_of(path)[0][1]
    assert image.shape == ((160, 120, 3) if rotation != 180 else (120, 160, 3))
    bright = [side for side, part in {"top": image[:8], "bottom": image[-8:], "left": image[:, :8],
                                      "right": image[:, -8:]}.items() if part.mean() > 200]
    assert bright == [{90: "top", 180: "right", 270: "bottom"}[rotation]]


def test_odd_sizes_and_changing_sizes():
    image = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    assert fitted(image, (5, 3)) is image
    assert np.array_equal(fitted(image, (6, 4))[:3, :5], image) and fitted(image, (6, 4)).shape == (4, 6, 3)
    assert fitted(image, (60, 40)).shape == (40, 60, 3)


def test_ids_and_frames_as_pictures(predict, tmp_path):
    pytest.importorskip("scipy")
    film(tmp_path / "clip.mp4", 6)
    for tracker in ("motion", "poseflow"):
        done(predict(tmp_path / "clip.mp4", "--track", tracker, "--save_img", "--no-save_video", output=tracker))
        assert [person["idx"] for person in results(tmp_path / tracker)] == [1] * 6
        assert len(list((tmp_path / tracker / "vis/clip").glob("*.jpg"))) == 6
        assert not (tmp_path / tracker / "vis/clip.mp4").exists()


def test_several_films_and_pictures_in_one_run(predict, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((120, 160, 3), 90, np.uint8))
    done(predict(film(tmp_path / "one.mp4", 2), tmp_path / "a.jpg", film(tmp_path / "two.mp4", 2)))
    names = [person["image_id"] for person in results(tmp_path / "out")]
    assert names == ["a.jpg", "one/0.jpg", "one/1.jpg", "two/0.jpg", "two/1.jpg"]


def test_what_is_no_film(predict, tmp_path):
    (tmp_path / "text.mp4").write_text("hello" * 100)
    assert "FFmpeg cannot open it" in one_error(predict(tmp_path / "text.mp4"))
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert "a file with audio and no pictures" in one_error(predict(tmp_path / "sound.mp4"))
    whole = film(tmp_path / "clip.mp4", 40, (320, 240)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:len(whole) // 2])  # its index lies at the end
    assert "Is it complete?" in one_error(predict(tmp_path / "cut.mp4"))


def test_frames_that_would_take_gigabytes_are_refused(predict, tmp_path):
    """FFmpeg itself refuses 268 million pixels, and then does not know the size of the film."""
    with av.open(str(tmp_path / "huge.avi"), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width = stream.height = 16000
        stream.pix_fmt = "gray"
        packet = av.Packet(b"\x89PNG\r\n\x1a\n")
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 10)
        container.mux(packet)
    assert "huge.avi: 16000x16000 pixels, expected at most 134217728" in one_error(predict(tmp_path / "huge.avi"))
    side = struct.pack("<HH", 20000, 20000)
    (tmp_path / "huge.gif").write_bytes(b"GIF89a" + side + b"\x80\0\0" + bytes(6) + b"," + bytes(4) + side
                                        + b"\0\2\2\x44\1\0;")
    assert "Has it more than 134217728 pixels?" in one_error(predict(tmp_path / "huge.gif", output="gif"))


def test_a_film_in_which_nobody_is_found_is_complete(main, tmp_path):
    """By the networks that come with the project."""
    pytest.importorskip("torch")
    pytest.importorskip("scipy")
    done(main("predict", film(tmp_path / "grey.mp4", 5), "--track", "--output", tmp_path / "out"))
    assert results(tmp_path / "out") == [] and len(frames_of(tmp_path / "out/vis/grey.mp4")) == 5


def test_no_encoder_is_one_line(predict, monkeypatch, tmp_path):
    monkeypatch.setattr("prediction.video.ENCODERS", ("no_such_codec",))
    film(tmp_path / "clip.mp4", 3)
    error = one_error(predict(tmp_path / "clip.mp4"))
    assert "none of the encoders no_such_codec" in error and "--no-save_video" in error
    assert not list((tmp_path / "out/vis").iterdir())
    done(predict(tmp_path / "clip.mp4", "--no-save_video"))


def test_a_film_that_ends_early_is_told(predict, tmp_path):
    """The index is at the front, as players of the web want it, and half the frames are missing."""
    with av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(40):
            image = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    whole = (tmp_path / "front.mp4").read_bytes()
    (tmp_path / "front.mp4").write_bytes(whole[:len(whole) * 6 // 10])
    finished = predict(tmp_path / "front.mp4")
    assert "of 40 frames" in finished.stderr and " problem" in done(finished)
    assert 10 < len(frames_of(tmp_path / "out/vis/front.mp4")) < 35


def test_without_pyav_one_line_and_pictures_still_work(predict, tmp_path, monkeypatch):
    import cv2

    monkeypatch.setitem(sys.modules, "av", None)
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((120, 160, 3), 90, np.uint8))
    done(predict(tmp_path / "a.jpg"))
    (tmp_path / "clip.mp4").write_bytes(b"0")
    assert "requirements-video.txt" in one_error(predict(tmp_path / "clip.mp4"))


def test_a_full_disk_is_one_line(small_cfg, small_model, tmp_path):
    """A limit on the size of files stands for the disk's end."""
    film(tmp_path / "clip.mp4", 200, (640, 480))
    limited = ("import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
               "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); sys.argv = sys.argv[1:]; "
               "runpy.run_path(sys.argv[0], run_name='__main__')")
    command = [sys.executable, "-c", limited, ROOT / "predict.py", tmp_path / "clip.mp4", "--cfg", small_cfg, "--model",
               small_model, *BOX, "--output", tmp_path / "out"]
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert str(tmp_path / "out") in one_error(finished)
    assert not list((tmp_path / "out").rglob("*.tmp"))


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_leaves_a_film_that_plays_and_complete_results(small_cfg, small_model, tmp_path, number, code):
    film(tmp_path / "long.mp4", 6000, (64, 48))
    command = [sys.executable, str(ROOT / "predict.py"), str(tmp_path / "long.mp4"), "--cfg", str(small_cfg), "--model",
               str(small_model), *BOX, "--output", str(tmp_path / "out")]
    lines = tmp_path / "out/people.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.time() + 120
    while time.time() < deadline and not (lines.exists() and lines.read_bytes().count(b"\n") > 30):
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors.decode()
    frames = lines.read_bytes().count(b"\n") - 1
    assert 30 <= frames < 6000
    assert len(results(tmp_path / "out")) == frames
    assert len(frames_of(tmp_path / "out/vis/long.mp4")) in (frames, frames - 1)
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_frames_that_cannot_be_decoded_are_told_counted_and_kept_in_the_film(predict, tmp_path):
    content = bytearray(film(tmp_path / "clip.mp4", 60, (320, 240)).read_bytes())
    rng = np.random.default_rng(1)
    for place in rng.integers(len(content) // 4, len(content) * 2 // 3, 30):
        content[place:place + 20] = rng.bytes(20)
    (tmp_path / "clip.mp4").write_bytes(content)
    found = list(VideoReader(str(tmp_path / "clip.mp4")).pictures())
    bad = sum(bool(picture.problem) for picture in found)
    assert 0 < bad < len(found)
    finished = predict(tmp_path / "clip.mp4")
    told = bad + (len(found) < 60)  # one more that it ends early
    assert f"people on {len(found) - bad} images, {told} problem" in done(finished)
    assert "frame " in finished.stderr
    assert len(frames_of(tmp_path / "out/vis/clip.mp4")) == len(found)
    assert len(results(tmp_path / "out")) == len(found) - bad
