"""Photos: which file of a folder is which photo, and reading a photo only if it is undamaged.

An annotation file or a detections file names photos by `file_name`. Where neither does, a photo is named by its number:
1.jpg, 000000000139.png.
"""
from __future__ import annotations

import contextlib
import functools
import os
import re
import zlib
from pathlib import Path, PurePosixPath
from threading import Condition
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import cv2
import numpy as np

from contract.errors import UserError
from contract.files import PathLike
from pose.annotations import annotations_path, load_images
from pose.picture_header import JPEG_END, PNG_START, START_OF_SCAN, jpeg_segments, read_header

SUFFIXES = (".jpeg", ".jpg", ".png")  # in small letters or capitals
FORMATS = ("JPEG", "PNG")
LONGEST_NUMBER = 18  # digits of an id: int64 holds them
DAMAGE = re.compile(rb"(Corrupt JPEG data|Premature end of JPEG file)[^\n]*\n?")  # as libjpeg says it
STDERR = 2


class Photos:
    """The photos of a folder by id. `entries` are an annotation file's: their file_name comes before numbers, and their
    width and height are compared with the photo's."""

    def __init__(self, folder: PathLike, entries: Optional[Mapping[int, Mapping[str, Any]]] = None):
        self.folder, self.entries = Path(folder), entries or {}
        self.names: Dict[int, str] = {}
        self.add_names({image_id: entry["file_name"] for image_id, entry in self.entries.items()
                        if entry.get("file_name")})

    def add_names(self, names: Mapping[int, str]) -> None:
        """Further names, id -> name. Raises UserError when a photo has two, or two photos have one."""
        for image_id, name in names.items():
            if _parts(self.names.setdefault(image_id, name))[-1:] != _parts(name)[-1:]:
                raise UserError(f"photo {image_id} is called {self.names[image_id]!r:.80} in the annotations and "
                                f"{name!r:.80} in the detections. Do they belong together?")
        ids: Dict[str, int] = {}
        for image_id, name in self.names.items():
            if ids.setdefault(name, image_id) != image_id:
                raise UserError(f"photos {ids[name]} and {image_id} are both called {name!r:.80}, expected a file_name "
                                "of its own for each")

    def path(self, image_id: int) -> Path:
        """The file of a photo. Raises UserError if there is none, or if two files have its number."""
        if image_id in self.names:
            path = self._named(self.names[image_id])
            if path is None:
                raise UserError(f"{self.folder / self.names[image_id]}: no such photo, but it is photo {image_id}. "
                                f"Are the photos of {self.folder} those of the annotations?")
            return path
        paths = self.numbered.get(image_id, [])
        if not paths:
            raise UserError(f"{self.folder / f'{image_id:012d}.jpg'}: no such photo, nor another file of the number "
                            f"{image_id}. Do the boxes belong to the photos of {self.folder}?")
        if len(paths) > 1:
            raise UserError(f"{paths[0]} has the number of {paths[1].name}. Take one of them out")
        return paths[0]

    def _named(self, name: str) -> Optional[Path]:
        """The file of that name in the folder, or, where a tool wrote a path of its own, of its last part."""
        parts = _parts(name)
        places = [self.folder / parts[-1]] if parts else []
        if len(parts) > 1 and ".." not in parts and parts[0] != "/":
            places.insert(0, self.folder.joinpath(*parts))
        return next((path for path in places if path.is_file()), None)

    def read(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB, as `read_photograph` gives it. Raises UserError when its annotation has another size."""
        path, entry = self.path(image_id), self.entries.get(image_id, {})
        image = read_photograph(path)
        height, width = image.shape[:2]
        if (entry.get("width", width), entry.get("height", height)) != (width, height):
            raise UserError(f"{path}: photo {image_id} is {width}x{height}, but its annotation says "
                            f"{entry.get('width')}x{entry.get('height')}. Was it scaled, or annotated before it was "
                            "turned as its EXIF says?")
        return image

    def all(self) -> Dict[int, Path]:
        """Every photo of the folder by ascending id. Where neither `entries` nor numbers name any, they are numbered
        from 1 in the order of their names."""
        if not self.files:
            raise UserError(f"{self.folder}: no photos ({', '.join(SUFFIXES)})")
        named = {image_id: self._named(name) for image_id, name in self.names.items()}
        found = {image_id: path for image_id, path in named.items() if path}
        if not found and not self.numbered:
            return dict(enumerate(self.files, start=1))
        for path in sorted(set(self.files) - set(found.values())):
            if not is_number(path.stem):
                raise UserError(f"{path}: expected a name that the annotations have, or a number as the others. Rename "
                                "it, or take it out of the folder")
            other = found.setdefault(int(path.stem), path)
            if other != path:
                raise UserError(f"{path} has the number of {other.name}. Take one of them out")
        return dict(sorted(found.items()))

    def first(self, count: int) -> List[int]:
        """The first ids, of those that are annotated or else of all photos."""
        return sorted(self.entries or {*self.names, *self.numbered})[:count]

    @functools.cached_property
    def files(self) -> List[Path]:
        """The files that have a photo's ending, by name."""
        try:
            return sorted(Path(entry.path) for entry in os.scandir(self.folder)
                          if entry.name.lower().endswith(SUFFIXES))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{self.folder}: no such folder of photos") from None

    @functools.cached_property
    def numbered(self) -> Dict[int, List[Path]]:
        """The files that are named by a number."""
        numbered: Dict[int, List[Path]] = {}
        for path in self.files:
            if is_number(path.stem):
                numbered.setdefault(int(path.stem), []).append(path)
        return numbered


def open_photos(dataroot: PathLike, images: Optional[PathLike] = None,
                annotations: Optional[PathLike] = None) -> Photos:
    """The photos of a data root, or of a folder `images`, named as the annotations say where there are any."""
    path = annotations_path(annotations or dataroot)
    return Photos(images or Path(dataroot) / "val2017", load_images(path) if annotations or path.exists() else None)


def _parts(name: str) -> Tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def is_number(stem: str) -> bool:
    return stem.isascii() and stem.isdigit() and len(stem) <= LONGEST_NUMBER


def read_photograph(path: PathLike) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned upright as its EXIF says.

    Raises UserError for a file that is missing, no JPEG or PNG, larger than picture_header.MOST_PIXELS, cut short or
    damaged.
    """
    try:
        header = read_header(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such photo. Do the boxes belong to these photos?") from None
    if header is None or header.format not in FORMATS:
        raise UserError(f"{path}: {os.path.getsize(path)} bytes that are no JPEG or PNG photo")
    encoded = np.fromfile(path, np.uint8)
    image, damage = _DECODER.decode(encoded)
    content = memoryview(encoded)  # type: ignore[arg-type]  # numpy does not say so, but it is a buffer
    if image is None or damage or not _is_whole(content):
        said = f" (libjpeg: {damage})" if damage else ""
        raise UserError(f"{path}: {len(encoded)} bytes that OpenCV cannot decode as a whole photo{said}. Get it "
                        "again, or open it and save it again if it looks right")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _is_whole(content: memoryview) -> bool:
    """Whether the end is there, and in a PNG every checksum right. OpenCV before 4.11 fills what is missing of a JPEG
    with grey and says nothing. What follows the end, such as the film of a motion photo, is of no concern."""
    if content[:8] != PNG_START:
        scan = next((start for marker, start in jpeg_segments(content) if marker == START_OF_SCAN), len(content))
        return bytes(content[scan:]).rfind(JPEG_END) >= 0  # from behind, where it usually is
    at = len(PNG_START)
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at:at + 4], "big")
        if zlib.crc32(content[at + 4:end]) != int.from_bytes(content[end:end + 4], "big"):
            return False
        if content[at + 4:at + 8] == b"IEND":
            return True
        at = end + 4
    return False


class _Decoder:
    """Decodes photos, several at a time, and reads what libjpeg reports about damage.

    libjpeg reports it only on the stderr of the process, and does not name the photo. So every photo that was being
    decoded at that moment is decoded again, alone. All other text on stderr is passed on.
    """

    def __init__(self) -> None:
        self.turn = Condition()
        self.decoding = 0  # photos at this moment
        self.alone = 0  # photos that are to be the only one; the others wait for them
        self.damage: List[str] = []  # all that was heard
        self.ear = self.stderr = self.position = 0  # file descriptors while photos are decoded, and what was read

    def decode(self, encoded: np.ndarray) -> Tuple[Optional[np.ndarray], str]:
        """(H, W, 3) BGR, None where OpenCV gives none, and what libjpeg said of damage."""
        image, damage = self._decode(encoded, alone=False)
        return self._decode(encoded, alone=True) if damage else (image, damage)

    def _decode(self, encoded: np.ndarray, alone: bool) -> Tuple[Optional[np.ndarray], str]:
        with self._taking_part(alone) as earlier:
            try:
                image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
            except cv2.error:  # a size that OpenCV does not take
                image = None
            with self.turn:
                self._listen()
                return image, "; ".join(self.damage[earlier:])

    @contextlib.contextmanager
    def _taking_part(self, alone: bool) -> Iterator[int]:
        """While this photo is decoded; how much damage was heard before."""
        with self.turn:
            self.alone += alone
            self.turn.wait_for(lambda: not (self.decoding if alone else self.alone))
            if not self.decoding:
                self.ear, self.stderr, self.position = os.memfd_create("libjpeg"), os.dup(STDERR), 0
                os.dup2(self.ear, STDERR)
            self.decoding += 1
            self._listen()
            earlier = len(self.damage)
        try:
            yield earlier
        finally:
            with self.turn:
                self.alone -= alone
                self.decoding -= 1
                if not self.decoding:
                    os.dup2(self.stderr, STDERR)
                    self._listen()
                    os.close(self.stderr)
                    os.close(self.ear)
                self.turn.notify_all()

    def _listen(self) -> None:
        said = os.pread(self.ear, os.fstat(self.ear).st_size - self.position, self.position)
        if said:
            self.position += len(said)
            self.damage += [match[0].decode().strip() for match in DAMAGE.finditer(said)]
            os.write(self.stderr, DAMAGE.sub(b"", said))


_DECODER = _Decoder()
