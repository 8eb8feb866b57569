"""Pictures of every kind come in as what a viewer shows."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from contract.errors import UserError
from prediction.pictures import read_picture, write_picture

# Red, green, blue and grey quarters, RGB.
QUARTERS = np.array([[[220, 30, 40], [30, 200, 50]], [[40, 60, 210], [128, 128, 128]]], np.uint8)
QUARTERS = QUARTERS.repeat(24, 0).repeat(32, 1)


def write(path: Path, rgb: np.ndarray, *options: int) -> Path:
    cv2.imwrite(str(path), rgb[:, :, [2, 1, 0, *range(3, rgb.shape[2])]] if rgb.ndim == 3 else rgb, options)
    return path


def close(found: np.ndarray, expected: np.ndarray, most: int = 12) -> None:
    """Equal away from the edges between quarters, as far as a JPEG is."""
    assert found.dtype == np.uint8 and found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected)
    for rows in (slice(4, 20), slice(28, 44)):
        for columns in (slice(4, 28), slice(36, 60)):
            assert difference[rows, columns].max() <= most


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_formats(tmp_path, suffix):
    close(read_picture(write(tmp_path / f"a{suffix}", QUARTERS)), QUARTERS)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_grey(tmp_path, suffix):
    grey = QUARTERS[:, :, 1]
    close(read_picture(write(tmp_path / f"a{suffix}", grey)), grey[:, :, None].repeat(3, 2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit(tmp_path, suffix):
    close(read_picture(write(tmp_path / f"a{suffix}", QUARTERS.astype(np.uint16) * 257)), QUARTERS, 1)


@pytest.mark.parametrize("dtype, scale", [(np.uint8, 1), (np.uint16, 257)])
def test_what_is_transparent_becomes_white(tmp_path, dtype, scale):
    alpha = np.full((48, 64, 1), 255)
    alpha[:, 32:] = 0
    alpha[24:, :32] = 51
    path = write(tmp_path / "a.png", np.concatenate([QUARTERS, alpha], axis=2).astype(dtype) * dtype(scale))
    expected = np.round(QUARTERS * (alpha / 255) + 255 * (1 - alpha / 255))
    close(read_picture(path), expected, 1)


def exif(orientation: int) -> bytes:
    """A JPEG's APP1 segment that says how the picture is to be turned."""
    body = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize("orientation, turned", [
    (1, QUARTERS), (2, QUARTERS[:, ::-1]), (3, QUARTERS[::-1, ::-1]), (4, QUARTERS[::-1]),
    (6, np.rot90(QUARTERS, 3)), (8, np.rot90(QUARTERS, 1))])
def test_turned_as_exif_says(tmp_path, orientation, turned):
    path = write(tmp_path / "a.jpg", QUARTERS)
    content = path.read_bytes()
    path.write_bytes(content[:2] + exif(orientation) + content[2:])
    found = read_picture(path)
    assert found.shape == turned.shape
    for y in (10, found.shape[0] - 10):
        for x in (10, found.shape[1] - 10):
            assert np.abs(found[y, x].astype(int) - turned[y, x]).max() <= 12


def test_cmyk(tmp_path):
    """As Adobe's programs write it, and as Pillow reads it: inverted values."""
    image = pytest.importorskip("PIL.Image")
    image.fromarray(QUARTERS).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    expected = np.array(image.open(tmp_path / "a.jpg").convert("RGB"))
    close(read_picture(tmp_path / "a.jpg"), expected, 6)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp"])
def test_what_is_no_picture(tmp_path, name):
    whole = write(tmp_path / f"whole{name[1:]}", QUARTERS).read_bytes()
    for content in (b"", b"hello", whole[:len(whole) // 2]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            read_picture(tmp_path / name)
    with pytest.raises((UserError, FileNotFoundError)):
        read_picture(tmp_path / f"none{name}")


def test_written_pictures_are_read_again(tmp_path):
    write_picture(tmp_path / "deep" / "a.jpg", QUARTERS)
    close(read_picture(tmp_path / "deep" / "a.jpg"), QUARTERS)
