"""One process that holds the networks and turns shards of pictures into files of people."""
from __future__ import annotations

import json
import os
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Iterator

from cluster.shards import Shard, problem_line
from cluster.store import Image, Store, fetch
from contract.errors import UserError
from prediction.assembly import make_boxes, make_finder, make_nms, make_poser
from prediction.output import END, line_of
from prediction.pictures import read_picture
from prediction.pipeline import Pipeline, Settings
from prediction.sources import Frame


class PredictShard:
    """Ray makes one per worker, and calls it with one shard after another. Decoding and cropping run in threads beside
    the networks, as in predict.py, so pictures do not pass through Ray's store."""

    def __init__(self, args: Namespace, settings: Dict[str, Any]):
        finder, poser = make_finder(args, False), make_poser(args, False)
        self.settings, self.output = settings, Store(args.output)
        self.pipeline = Pipeline(finder, poser, Settings(make_nms(args, poser.spec.skeleton)), make_boxes(args))
        self.pipeline.__enter__()  # until Ray ends the process

    def __call__(self, row: Dict[str, Any]) -> Dict[str, Any]:
        """A shard's number and pictures -> what was done and by whom; the shard's file is written."""
        number, images = json.loads(row["shard"])
        shard = Shard(number, [Image(*image) for image in images])
        start, people, failed = time.monotonic(), 0, 0
        lines = [shard.header(self.settings)]
        with tempfile.TemporaryDirectory() as folder:
            for image, work in zip(shard.images, self._run(shard, Path(folder))):
                if work.is_readable:
                    people += len(work.people)
                    lines.append(line_of(work.frame, work.people))
                else:
                    failed += 1
                    lines.append(problem_line(image, work.frame.problem))
        self.output.write(shard.file, b"".join([*lines, END]))
        return {"images": len(shard.images), "people": people, "failed": failed, "process": os.getpid(),
                "seconds": time.monotonic() - start}

    def _run(self, shard: Shard, folder: Path) -> Iterator[Any]:
        return self.pipeline.run(enumerate(shard.images), lambda one: load(one[0], one[1], folder), draw=False)


def load(number: int, image: Image, folder: Path) -> Frame:
    """The picture, or what is wrong with it. Raises OSError where its store does not answer."""
    try:
        path = fetch(image, folder, number)
    except (FileNotFoundError, PermissionError):
        return Frame(image.name, None, f"{image.url}: no such picture, or not readable", size=image.size)
    try:
        return Frame(image.name, read_picture(path), size=image.size)
    except (UserError, OSError) as error:
        return Frame(image.name, None, str(error).replace(str(path), image.url), size=image.size)
    finally:
        if path.parent == folder:
            path.unlink()
