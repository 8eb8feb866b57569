"""Pictures of every kind come in as what a viewer shows."""
from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from contract.errors import UserError
from pose.picture_header import MOST_PIXELS, read_header
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


def half_clear() -> np.ndarray:
    """RGBA, taller than wide, whose right half is transparent over another colour, with a mark in one corner."""
    image = np.full((60, 40, 4), (200, 40, 30, 255), np.uint8)
    image[:8, :8, 1:3] = 250
    image[:, 20:] = (10, 20, 90, 0)
    return image


TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")


@pytest.mark.parametrize("turn", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparent_and_turned(tmp_path, suffix, turn):
    """Pillow writes and turns them."""
    image = pytest.importorskip("PIL.Image")
    written = image.fromarray(half_clear())
    exif = image.Exif()
    exif[274] = turn
    written.save(tmp_path / f"a{suffix}", exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    seen = written if turn == 1 else written.transpose(image.Transpose[TURNS[turn - 2]])
    expected = np.array(image.alpha_composite(image.new("RGBA", seen.size, "white"), seen).convert("RGB"))
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}"), expected)


@pytest.mark.parametrize("mode", ["P", "LA"])
def test_transparent_without_four_channels(tmp_path, mode):
    """A palette, and grey."""
    image = pytest.importorskip("PIL.Image")
    grey = np.array([[0, 90], [200, 90]], np.uint8).repeat(20, 0).repeat(20, 1)
    made = image.fromarray(grey).convert(mode)
    if mode == "LA":
        made.putalpha(image.fromarray(np.where(grey == 90, 0, 255).astype(np.uint8)))
    see_through = {} if mode == "LA" else {"transparency": 90}
    made.save(tmp_path / "a.png", **see_through)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"),
                                  np.where(grey == 90, 255, grey)[..., None].repeat(3, 2))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tif", "a.webp"])
def test_content_decides_and_not_the_name(tmp_path, kind, name):
    path = write(tmp_path / f"written.{kind.lower()}", QUARTERS).rename(tmp_path / name)
    assert read_header(path)[:3] == (kind, 64, 48)
    close(read_picture(path), QUARTERS)


def tiff(order: str, big: bool, tags: dict) -> bytes:
    """A file of one directory, of 32-bit numbers."""
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    start += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    entries = [struct.pack(order + ("HHQI4x" if big else "HHII"), tag, 4, 1, value) for tag, value in tags.items()]
    return start + struct.pack(order + ("Q" if big else "H"), len(tags)) + b"".join(entries) + bytes(8)


def bitmap(form: str, width: int, height: int) -> bytes:
    size = 12 if form == "<HH" else 40
    return b"BM" + struct.pack("<IHHII", 0, 0, 0, 0, size) + struct.pack(form, width, height) + bytes(60)


def riff(kind: bytes, content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 20 + len(content)) + b"WEBP" + kind + struct.pack("<I", len(content)) + content


HUGE = {
    "bmp": (bitmap("<ii", 20000, 20000), "20000x20000"),
    "bmp, top first": (bitmap("<ii", 20000, -20000), "20000x20000"),
    "bmp of OS/2": (bitmap("<HH", 20000, 20000), "20000x20000"),
    **{f"tiff {order}{' big' if big else ''}": (tiff(order, big, {256: 20000, 257: 20000}), "20000x20000")
       for order in "<>" for big in (False, True)},
    "tiff of a huge tile": (tiff("<", False, {256: 64, 257: 48, 322: 20000, 323: 20000}), "20000x20000"),
    "webp": (riff(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383)), "16383x16383"),
    "lossless webp": (riff(b"VP8L", b"\x2f" + struct.pack("<I", 16382 | 16382 << 14)), "16383x16383"),
    "webp of parts": (riff(b"VP8X", bytes(4) + (19999).to_bytes(3, "little") * 2), "20000x20000"),
}


@pytest.mark.parametrize("content, size", HUGE.values(), ids=HUGE)
def test_a_picture_that_would_take_gigabytes_is_neither_read_nor_decoded(tmp_path, content, size, monkeypatch):
    """The file is a gigabyte long, of which the disk holds the beginning only."""
    path = tmp_path / "a.bmp"
    path.write_bytes(content)
    with open(path, "ab") as file:
        file.truncate(1 << 30)
    monkeypatch.setattr(cv2, "imdecode", None)
    tracemalloc.start()
    with pytest.raises(UserError, match=f"a.bmp: {size} pixels, expected at most {MOST_PIXELS}"):
        read_picture(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "tiff", "webp"])
def test_a_header_that_is_cut_is_no_defect(tmp_path, kind):
    whole = write(tmp_path / f"a.{kind}", QUARTERS).read_bytes()
    for length in (*range(40), *range(40, len(whole), len(whole) // 30)):
        (tmp_path / "b").write_bytes(whole[:length])
        header = read_header(tmp_path / "b")
        assert header is None or header[1:3] == (64, 48)


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
