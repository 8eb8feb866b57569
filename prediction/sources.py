"""What the user named, as sources of frames: pictures, videos, cameras, streams."""
from __future__ import annotations

import dataclasses
import glob
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from contract.errors import UserError
from prediction.pictures import SUFFIXES, read_picture
from prediction.video import Range, VideoReader, is_live

VIDEO_SUFFIXES = (".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts",
                  ".webm", ".wmv")
STDIN = "-"


class Frame(NamedTuple):
    """One image with its name in the results. `image` is None where it could not be read, and `problem` says why."""

    name: str
    image: Any  # (H, W, 3) uint8 RGB
    problem: str = ""
    time: Optional[int] = None  # of a video, in its time base
    size: int = 0  # bytes of a picture's file


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Picture files by their names in the results, in order."""

    paths: Dict[str, Path]

    @property
    def names(self) -> List[str]:
        return list(self.paths)

    def size(self, name: str) -> int:
        """Bytes of its file: a picture that was repaired is done again."""
        return self.paths[name].stat().st_size

    def load(self, name: str) -> Frame:
        path = self.paths[name]
        try:
            return Frame(name, read_picture(path), size=self.size(name))
        except (UserError, OSError) as error:
            return Frame(name, None, str(error))


class Sample:
    """The picture that comes with the project: rendered when it is used."""

    SEED = (17, 36)
    names = ["sample.jpg"]

    def size(self, name: str) -> int:
        return 0

    def load(self, name: str) -> Frame:
        from demo.scenes import render_scene  # here, because only the sample is rendered

        return Frame(name, render_scene(self.SEED).image)


class Video:
    """A video file, a camera or a stream. `prefix` comes before the frames' numbers in their names."""

    def __init__(self, source: str, prefix: str = ""):
        self.reader, self.source, self.prefix = VideoReader(source), source, prefix
        self.live = is_live(source)

    @property
    def stem(self) -> str:
        """The name of its drawn copy."""
        if self.source.isdigit():
            return f"camera{self.source}"
        return re.sub(r"\W+", "_", self.source).strip("_") if self.live else Path(self.source).stem

    def frames(self, part: Range = Range()) -> Iterator[Frame]:
        """Named by their numbers from 0, as AlphaPose names them. One that cannot be decoded has the image before."""
        latest = None
        for number, picture in enumerate(self.reader.pictures(part), part.first):
            problem = picture.problem and f"frame {number} of {self.source}: {picture.problem}"
            latest = picture.image if picture.image is not None else latest
            yield Frame(f"{self.prefix}{number}.jpg", latest, problem, picture.time)


def find_sources(inputs: Sequence[str], output: Path) -> List[Union[Pictures, Sample, Video]]:
    """The pictures, together, then the videos; the sample where nothing is named. What lies in `output` is not taken
    for an input. Raises UserError for what is neither picture nor video, or missing."""
    if not inputs:
        return [Sample()]
    pictures: List[Tuple[str, Path]] = []
    videos: List[str] = []
    for entry in _expand(inputs):
        if is_live(entry) and not os.path.exists(entry):
            videos.append(entry)
        elif os.path.isdir(entry):
            pictures += _pictures_in(entry, output)
        elif not os.path.exists(entry):
            raise UserError(f"{entry}: no such picture, video or folder")
        elif entry.lower().endswith(SUFFIXES):
            pictures.append((os.path.basename(entry), Path(entry)))
        elif entry.lower().endswith(VIDEO_SUFFIXES):
            videos.append(entry)
        else:
            raise UserError(f"{entry}: expected a picture ({', '.join(SUFFIXES)}) or a video "
                            f"({', '.join(VIDEO_SUFFIXES)})")
    alone = len(videos) == 1 and not pictures
    return [*([Pictures(_named(pictures))] if pictures else []),
            *(Video(video, "" if alone else f"{Path(video).stem}/") for video in videos)]


def _expand(inputs: Sequence[str]) -> Iterator[str]:
    for entry in inputs:
        if entry == STDIN:
            yield from (line.strip() for line in sys.stdin if line.strip())
        elif not os.path.exists(entry) and not is_live(entry) and glob.has_magic(entry):
            found = sorted(glob.glob(entry, recursive=True), key=natural)
            if not found:
                raise UserError(f"{entry}: nothing matches it")
            yield from found
        else:
            yield entry


def _pictures_in(folder: str, output: Path) -> List[Tuple[str, Path]]:
    """(name relative to the folder, path), subfolders too, in natural order."""
    found = [(path.relative_to(folder).as_posix(), path) for path in Path(folder).rglob("*")
             if path.suffix.lower() in SUFFIXES and path.is_file() and output.resolve() not in path.resolve().parents]
    if not found:
        raise UserError(f"{folder}: no pictures in it ({', '.join(SUFFIXES)})")
    return sorted(found, key=lambda pair: natural(pair[0]))


def natural(name: str) -> List[Tuple[int, object]]:
    """A key that sorts 2.jpg before 10.jpg."""
    return [(0, int(part)) if part.isascii() and part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]


def _named(pictures: Sequence[Tuple[str, Path]]) -> Dict[str, Path]:
    """By name, or by path where files of several folders share a name. A file named twice is there once."""
    paths: Dict[str, Path] = {}
    for name, path in pictures:
        if paths.get(name, path) != path:
            name = path.as_posix().lstrip("./")
        paths[name] = path
    return paths
