"""Pictures that are crops already, as bins to calibrate on."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, SMALL_INPUT, bins_in, done, one_error


@pytest.fixture()
def crops(tmp_path) -> Path:
    """Three pictures of one colour each, of other sizes than the network's input."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for name, (red, green, blue), size in (("b.png", (51, 102, 204), (30, 20)), ("a.png", (255, 0, 0), (48, 64)),
                                           ("c.png", (0, 255, 0), (100, 200))):
        cv2.imwrite(str(folder / name), np.full((*size, 3), (blue, green, red), np.uint8))
    return folder


@pytest.fixture()
def crop_bins(crops, small_cfg, tmp_path):
    def run(*options: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "pose.crop_bins", crops, tmp_path / "bins", "--cfg", small_cfg, *options]
        return subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=300)

    return run


@pytest.mark.parametrize("text", ["b.png c.png\n", "b.png\nc.png", "\ufeffb.png\r\n\r\n  c.png\r\n"])
def test_the_list_says_which_and_in_which_order(crop_bins, tmp_path, text):
    (tmp_path / "calib_set.txt").write_text(text, encoding="utf-8", newline="")
    done(crop_bins("--list", tmp_path / "calib_set.txt", "--mean", 0, "--std", 1))
    rows = bins_in(tmp_path / "bins", (3, *SMALL_INPUT))
    expected = np.array([[0.2, 0.4, 0.8], [0, 1, 0]], np.float32)
    np.testing.assert_array_equal(rows, np.broadcast_to(expected[:, :, None, None], rows.shape))


def test_without_a_list_all_by_name_and_as_the_config_says(crop_bins, tmp_path):
    done(crop_bins())
    rows = bins_in(tmp_path / "bins", (3, *SMALL_INPUT))
    np.testing.assert_allclose(rows[:2, :, 0, 0], np.subtract([[1, 0, 0], [0.2, 0.4, 0.8]], [0.406, 0.457, 0.480]),
                               atol=1e-6)
    assert len(rows) == 3


def test_bins_that_are_there_stay_unless_replaced(crop_bins, tmp_path):
    done(crop_bins())
    assert "holds bins already" in one_error(crop_bins("--mean", 0))
    (tmp_path / "one.txt").write_text("a.png")
    done(crop_bins("--list", tmp_path / "one.txt", "--replace"))
    assert len(list((tmp_path / "bins").glob("*.bin"))) == 1


@pytest.mark.parametrize("content, options, says", [
    (b"d.png", (), "d.png: no such photo"), (b"", (), "names no picture"), (b"\xff\xfe\x00", (), "not a list"),
    (None, (), "no such list"), (b"a.png", ("--mean", 1, 2), "2 numbers, expected 1 or 3"),
    (b"a.png", ("--std", 0), "--std is 0"),
])
def test_what_cannot_be_used_is_named(crop_bins, tmp_path, content, options, says):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    assert says in one_error(crop_bins("--list", tmp_path / "list.txt", *options))
