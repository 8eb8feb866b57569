"""One process that holds the networks and turns shards into files of people."""
from __future__ import annotations

import os
import platform
import resource
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Iterator

from cluster.inputs import Reader
from cluster.shards import Shard, from_json, problem_line
from cluster.store import Store
from pose.alphapose_results import image_number
from prediction.assembly import make_boxes, make_finder, make_nms, make_poser
from prediction.output import END, line_of
from prediction.pipeline import Pipeline, Settings

NETWORKS = ("detect", "pose")  # stages of the pipeline that a device does


class PredictShard:
    """Ray makes one per worker, and calls it with one shard after another. Decoding and cropping run in threads beside
    the networks, as in predict.py, so images do not pass through Ray's store."""

    def __init__(self, args: Namespace, settings: Dict[str, Any]):
        finder, poser = make_finder(args, False), make_poser(args, False)
        self.settings, self.output, self.reader = settings, Store(args.output), Reader()
        self.by_number = args.eval or args.format == "coco"
        self.pipeline = Pipeline(finder, poser, Settings(make_nms(args, poser.spec.skeleton)), make_boxes(args))
        self.pipeline.__enter__()  # until Ray ends the process

    def __call__(self, row: Dict[str, Any]) -> Dict[str, Any]:
        """A shard -> what was done and by whom; the shard's file is written."""
        shard = from_json(row["shard"])
        start, before = time.monotonic(), dict(self.pipeline.seconds)
        lines, people, failed = [], 0, 0
        with tempfile.TemporaryDirectory() as folder:
            for work in self._run(shard, Path(folder)):
                if self.by_number:
                    image_number(work.frame.name)  # of a tar file they were not known before
                failed += not work.is_readable
                people += len(work.people)
                lines.append(line_of(work.frame, work.people) if work.is_readable else problem_line(work.frame))
        self.output.write(shard.file, b"".join([shard.header(self.settings), *lines, END]))
        return {"images": len(lines), "people": people, "failed": failed, "process": f"{platform.node()} {os.getpid()}",
                "seconds": time.monotonic() - start,
                "kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                **{name: self.pipeline.seconds.get(name, 0) - before.get(name, 0) for name in NETWORKS}}

    def _run(self, shard: Shard, folder: Path) -> Iterator[Any]:
        loads = (load for number, entry in enumerate(shard.entries)
                 for load in self.reader.loads(entry, number, folder))
        return self.pipeline.run(loads, lambda load: load(), draw=False)
