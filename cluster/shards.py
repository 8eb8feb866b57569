"""Shards: lists of pictures that one worker does at a time, and the file that each becomes.

OUTPUT/shards/000012.jsonl begins with the settings and the digest of its pictures' names and sizes. Then each line is a
picture, as in people.jsonl, or {"image", "bytes", "problem"} for one that cannot be read. It is complete or not there.
"""
from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from cluster.store import Image, Store
from prediction.output import END


class Shard(NamedTuple):
    number: int
    images: List[Image]

    @property
    def file(self) -> str:
        return f"shards/{self.number:06d}.jsonl"

    def header(self, settings: Dict[str, Any]) -> bytes:
        digest = hashlib.sha256(json.dumps([image[:2] for image in self.images]).encode()).hexdigest()
        return json.dumps({"settings": settings, "images_sha256": digest}).encode() + b"\n"


def split(images: Sequence[Image], size: int) -> List[Shard]:
    return [Shard(number, list(images[start:start + size]))
            for number, start in enumerate(range(0, len(images), size))]


def is_done(shard: Shard, output: Store, settings: Dict[str, Any]) -> bool:
    content = output.read(shard.file)
    return content.startswith(shard.header(settings)) and content.endswith(END)


def lines_of(shard: Shard, output: Store) -> Iterator[Tuple[Image, bytes, str]]:
    """(picture, its line, problem or "") of a shard that is done."""
    for image, line in zip(shard.images, output.read(shard.file).splitlines(keepends=True)[1:]):
        yield image, line, json.loads(line).get("problem", "")


def problem_line(image: Image, problem: str) -> bytes:
    return json.dumps({"image": image.name, "bytes": image.size, "problem": problem}).encode() + b"\n"
