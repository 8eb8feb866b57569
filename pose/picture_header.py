"""What a picture's file says of itself, read before anything of it is decoded: its format, size, transparency, turn.

The formats are told by how a file begins, as OpenCV does, whatever its name ends with.
"""
from __future__ import annotations

import mmap
import os
import struct
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Tuple, Union

from contract.errors import UserError
from contract.files import PathLike

MOST_PIXELS = 2 ** 27  # of a picture; decoded they take 403 MB
JPEG_START, JPEG_END, PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
TIFF_STARTS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}  # and its byte order; + is BigTIFF
START_OF_SCAN = 0xDA
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG segments that begin with the size of the picture
PNG_ALPHA, WEBP_ALPHA = (4, 6), 0x10  # colour types; a flag
WIDTH, HEIGHT, TURN, TILE_WIDTH, TILE_HEIGHT, MORE_SAMPLES = 256, 257, 274, 322, 323, 338  # tags of TIFF and EXIF
MOST_PARTS, KEPT = 1 << 14, 1 << 12  # parts of a file that are looked at, and bytes of each
INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of TIFF's values

Content = Union[bytes, memoryview, mmap.mmap]


class Header(NamedTuple):
    """`width` and `height` are those of the stored picture; `turn` is EXIF's orientation, 1 to 8, of a PNG or WEBP
    (OpenCV turns a TIFF by itself, and a JPEG where nothing is transparent)."""

    format: str
    width: int
    height: int
    has_alpha: bool = False
    turn: int = 1


def read_header(path: PathLike) -> Optional[Header]:
    """None for what is no JPEG, PNG, BMP, TIFF or WEBP. Raises UserError for one of more than MOST_PIXELS."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:  # nothing to map
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # of a large file, only what is looked at
            header = header_of(content)
    if header:
        require_size(path, header.width, header.height)
    return header


def require_size(path: PathLike, width: int, height: int) -> None:
    """Raises UserError for more than MOST_PIXELS."""
    if width * height > MOST_PIXELS:
        raise UserError(f"{path}: {width}x{height} pixels, expected at most {MOST_PIXELS} in all. Scale it down")


def header_of(content: Content) -> Optional[Header]:
    read = next((read for start, read in READERS.items() if content[:len(start)] == start), None)
    try:
        return read(content) if read else None
    except (struct.error, IndexError):  # cut short
        return None


def _jpeg(content: Content) -> Optional[Header]:
    for marker, start in jpeg_segments(content):
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", content, start + 1)
            return Header("JPEG", width, height)
    return None


def jpeg_segments(content: Content) -> Iterator[Tuple[int, int]]:
    """Marker of each segment and where its content starts, up to the first scan."""
    at = 2
    for _ in range(MOST_PARTS):
        if content[:2] != JPEG_START or at + 4 > len(content) or content[at] != 0xFF:
            return
        marker = content[at + 1]
        if marker == 0xFF:  # a byte to fill up
            at += 1
            continue
        yield marker, at + 4
        if marker == START_OF_SCAN:
            return
        at += 2 + max(2, int.from_bytes(content[at + 2:at + 4], "big"))


def _png(content: Content) -> Header:
    width, height, _, colors = struct.unpack_from(">IIBB", content, 16)
    parts = dict(_parts(content, len(PNG_START), ">I4s", 4))
    return Header("PNG", width, height, colors in PNG_ALPHA or b"tRNS" in parts, _turn(parts.get(b"eXIf", b"")))


def _bmp(content: Content) -> Header:
    form = "<HH" if content[14] == 12 else "<ii"  # OS/2's short header
    width, height = struct.unpack_from(form, content, 18)
    return Header("BMP", abs(width), abs(height))  # a negative height says that the first row is the top


def _webp(content: Content) -> Optional[Header]:
    """Google's container: one picture, lossy or not, or VP8X, which says what follows."""
    first = bytes(content[12:16])
    if content[8:12] != b"WEBP" or first not in (b"VP8 ", b"VP8L", b"VP8X"):
        return None
    if first == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
        return Header("WEBP", width, height)
    if first == b"VP8L":
        bits, = struct.unpack_from("<I", content, 21)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    width, height = (1 + int.from_bytes(content[at:at + 3], "little") for at in (24, 27))
    exif = dict(_parts(content, 12, "<4sI", 0)).get(b"EXIF", b"")
    return Header("WEBP", width, height, bool(content[20] & WEBP_ALPHA), _turn(exif))


def _parts(content: Content, at: int, form: str, after: int) -> Iterator[Tuple[bytes, bytes]]:
    """Name and first KEPT bytes of each part of a PNG or WEBP: its name and size in `form`, its bytes, `after` more."""
    for _ in range(MOST_PARTS):
        if at + 8 > len(content):
            return
        first, second = struct.unpack_from(form, content, at)
        name, size = (first, second) if isinstance(first, bytes) else (second, first)
        yield name, bytes(content[at + 8:at + 8 + min(size, KEPT)])
        at += 8 + size + (after or size % 2)


def _tiff(content: Content) -> Optional[Header]:
    """A tile is decoded whole, so a small picture of large tiles is a large one."""
    tags = _tiff_tags(content)
    if WIDTH not in tags or HEIGHT not in tags:
        return None
    return Header("TIFF", max(tags[WIDTH], tags.get(TILE_WIDTH, 0)), max(tags[HEIGHT], tags.get(TILE_HEIGHT, 0)),
                  MORE_SAMPLES in tags)


def _tiff_tags(content: Content) -> Dict[int, int]:
    """The whole numbers of the first directory, each tag's first."""
    start = bytes(content[:4])
    order, is_big = TIFF_STARTS[start], b"+" in start
    counter, entry = (order + form for form in (("Q", "HHQ8s") if is_big else ("H", "HHI4s")))
    at, = struct.unpack_from(order + ("Q" if is_big else "I"), content, 8 if is_big else 4)
    count, = struct.unpack_from(counter, content, at)
    at += struct.calcsize(counter)
    tags = {}
    for row in range(min(count, MOST_PARTS)):
        tag, kind, _, value = struct.unpack_from(entry, content, at + row * struct.calcsize(entry))
        if kind in INTEGERS:
            tags[tag], = struct.unpack_from(order + INTEGERS[kind], value)
    return tags


def _turn(exif: bytes) -> int:
    """The orientation of an EXIF block, which is a TIFF without a picture."""
    exif = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    try:
        turn = _tiff_tags(exif).get(TURN, 1)
    except (KeyError, struct.error):  # damaged: as if there were none
        return 1
    return turn if 1 <= turn <= 8 else 1


READERS: Dict[bytes, Callable[[Content], Optional[Header]]] = {
    JPEG_START: _jpeg, PNG_START: _png, b"BM": _bmp, b"RIFF": _webp, **dict.fromkeys(TIFF_STARTS, _tiff)}
