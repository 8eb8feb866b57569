"""Shards: what one worker does at a time, and the file that each becomes. A shard is some pictures, a tar file of
pictures, or a range of frames of a video.

OUTPUT/shards/000012.jsonl begins with the settings and the digest of the shard's names and sizes. Then each line is an
image, as in people.jsonl, or {"image", "bytes", "problem"} for one that cannot be read. It is complete or not there.
"""
from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from cluster.store import Store
from prediction.output import END
from prediction.pictures import SUFFIXES
from prediction.sources import Frame
from prediction.video import Range

TARS = (".tar", ".tar.gz", ".tgz")
FOLDER = "shards"


class Entry(NamedTuple):
    """A picture, with its name in the results; a tar file, or a range of a video, with what comes before the names of
    its images. `size` is that of the file, in bytes."""

    name: str
    size: int
    url: str
    range: Any = None  # Range, of a video

    @property
    def is_picture(self) -> bool:
        return self.url.lower().endswith(SUFFIXES)

    @property
    def is_tar(self) -> bool:
        return self.url.lower().endswith(TARS)

    @property
    def images(self) -> int:
        """How many it has as far as is known: of a tar file 0."""
        return self.range.length or 0 if self.range else int(self.is_picture)


class Shard(NamedTuple):
    number: int
    entries: List[Entry]

    @property
    def file(self) -> str:
        return f"{FOLDER}/{self.number:06d}.jsonl"

    @property
    def images(self) -> int:
        return sum(entry.images for entry in self.entries)

    def header(self, settings: Dict[str, Any]) -> bytes:
        what = [(entry.name, entry.size, entry.range) for entry in self.entries]
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        return json.dumps({"settings": settings, "images_sha256": digest}).encode() + b"\n"


def to_json(shard: Shard) -> str:
    return json.dumps(shard)


def from_json(text: str) -> Shard:
    number, entries = json.loads(text)
    return Shard(number, [Entry(name, size, url, part and Range(*part)) for name, size, url, part in entries])


def split(entries: Sequence[Entry], size: int) -> List[Shard]:
    """`size` pictures each; what is no picture is a shard of its own."""
    lists: List[List[Entry]] = []
    for entry in entries:
        if not lists or len(lists[-1]) == size or not (entry.is_picture and lists[-1][-1].is_picture):
            lists.append([])
        lists[-1].append(entry)
    return [Shard(number, some) for number, some in enumerate(lists)]


def is_done(shard: Shard, output: Store, settings: Dict[str, Any]) -> bool:
    """Whether its file, which is there, begins and ends as it must."""
    header = shard.header(settings)
    return output.read(shard.file, 0, len(header)) == header and output.read(shard.file, -len(END)) == END


def lines_of(content: bytes) -> Iterator[Tuple[Tuple[str, int], bytes, str]]:
    """(name and bytes of an image, its line, problem or "") of a shard's file."""
    for line in content.splitlines(keepends=True)[1:-1]:
        image = json.loads(line)
        yield (image["image"], image["bytes"]), line, image.get("problem", "")


def problem_line(frame: Frame) -> bytes:
    return json.dumps({"image": frame.name, "bytes": frame.size, "problem": frame.problem}).encode() + b"\n"
