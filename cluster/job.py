"""predict.py --distributed: list the pictures, hand shards to workers, and join what they wrote."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Iterator, List

from cluster.nodes import check_nodes, connect, import_ray, needs_of
from cluster.shards import Shard, is_done, lines_of, split
from cluster.store import Image, Store, is_url
from cluster.worker import PredictShard
from contract.errors import UserError
from contract.locks import hold
from contract.progress import Progress
from contract.tables import format_table
from pose.alphapose_results import image_number
from pose.spec import load_spec
from prediction.assembly import make_finder, make_poser, settings_of
from prediction.output import LINES, RESULTS, SEPARATE, Results
from prediction.sources import Pictures, find_sources

FAILURES, TABLE = "failures.jsonl", "people.parquet"
MILLION = 1e6


def predict_on_cluster(args: Namespace) -> None:
    """Raises UserError for what predict.py refuses, for a cluster that cannot do the job, and past --max_failures."""
    ray = import_ray()
    args = absolute(args)
    output = Store(args.output)
    images = list_images(args.inputs, args.output)
    if args.eval or args.format == "coco":
        for image in images:
            image_number(image.name)
    settings = settings_of(args, make_finder(args, False), make_poser(args, False))
    shards = split(images, args.shard)
    with hold(args.output) if output.is_local else contextlib.nullcontext():
        missing = [shard for shard in shards if args.replace or not is_done(shard, output, settings)]
        tally = run(ray, args, missing, len(images), settings) if missing else Tally(0)
        report = join(args, output, shards, settings)
    print(tally.table(args.price) + "\n" + report)


def absolute(args: Namespace) -> Namespace:
    """With paths that every process finds, wherever Ray starts it."""
    changed = vars(args).copy()
    for name in ("output", "model", "cfg", "weights", "yolo_cfg"):
        value = changed[name]
        changed[name] = value if is_url(str(value)) else os.path.abspath(value)
    return Namespace(**changed)


def list_images(inputs: List[str], output: str) -> List[Image]:
    urls = [entry for entry in inputs if is_url(entry)]
    if urls:
        if len(inputs) > 1:
            raise UserError(f"{urls[0]}: give one URL alone, of a folder")
        return Store(urls[0]).pictures()
    if not inputs:
        raise UserError("--distributed needs a folder of pictures, by its path or URL")
    sources = find_sources(inputs, Path(output))
    if len(sources) != 1 or not isinstance(sources[0], Pictures):
        raise UserError("--distributed takes pictures; run predict.py without it for a video")
    return [Image(name, sources[0].size(name), os.path.abspath(path)) for name, path in sources[0].paths.items()]


class Tally:
    """What the workers of one run have done."""

    def __init__(self, workers: int):
        self.workers, self.start = workers, time.monotonic()
        self.images, self.people, self.failed, self.seconds = 0, 0, 0, 0.0
        self.processes: set = set()

    def add(self, row: Dict[str, Any]) -> None:
        self.images, self.people = self.images + row["images"], self.people + row["people"]
        self.failed, self.seconds = self.failed + row["failed"], self.seconds + row["seconds"]
        self.processes.add(row["process"])

    def table(self, price: Any) -> str:
        """Pictures, people, failures, speed, utilisation, and the cost of a million at a price for a worker's hour."""
        seconds = time.monotonic() - self.start
        rate = self.images / seconds if self.workers else 0
        row = {"pictures": self.images, "people": self.people, "failed": self.failed, "workers": self.workers,
               "restarted": max(0, len(self.processes) - self.workers),
               "pictures/s": f"{rate:.1f}",
               "people/s per worker": f"{self.people / seconds / max(self.workers, 1):.1f}",
               "at work": f"{self.seconds / seconds / self.workers:.0%}" if self.workers else "-"}
        if price is not None:
            row["cost of a million pictures"] = f"{price * self.workers / 3600 * MILLION / rate:.2f}" if rate else "-"
        return format_table(list(row), [list(row.values())])


def run(ray: Any, args: Namespace, missing: List[Shard], total: int, settings: Dict[str, Any]) -> Tally:
    connect(ray, args.distributed)
    try:
        workers, needs = needs_of(ray, args)
        check_nodes(ray, args, needs)
        workers = min(workers, len(missing))
        tally = Tally(workers)
        left = sum(len(shard.images) for shard in missing)
        with Progress(total=total, initial=total - left, unit="image", desc="predict") as bar:
            for row in done_by(ray, args, missing, settings, workers, needs):
                tally.add(row)
                bar.update(row["images"])
                if args.max_failures is not None and tally.failed > args.max_failures:
                    raise UserError(f"{tally.failed} pictures cannot be read, more than --max_failures "
                                    f"{args.max_failures}. The shards in {args.output} name them")
        return tally
    finally:
        ray.shutdown()


def done_by(ray: Any, args: Namespace, missing: List[Shard], settings: Dict[str, Any], workers: int,
            needs: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """What `PredictShard` returns of each shard, in the order in which they end. A shard whose worker or machine died
    is done again by another."""
    class Predict(PredictShard):  # carries its arguments, so that Ray can start another one at any time
        def __init__(self) -> None:
            super().__init__(args, settings)

    rows = [{"shard": json.dumps(shard)} for shard in missing]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Predict, compute=ray.data.ActorPoolStrategy(size=workers), **needs)
    try:
        yield from done.iter_rows()
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise UserError(f"a worker failed: {str(cause).strip().splitlines()[-1]}. The same command continues") from None


def join(args: Namespace, output: Store, shards: List[Shard], settings: Dict[str, Any]) -> str:
    """The files of predict.py from those of the shards, in the order of the pictures; also failures and a Parquet
    table. Returns what there is."""
    local = Path(args.output) if output.is_local else Path(tempfile.mkdtemp())
    try:
        results = Results(local, settings, len(load_spec(args.cfg).skeleton))
        results.begin(may_continue=False, replace=True)
        keys, problems = [], []
        for shard in shards:
            for image, line, problem in lines_of(shard, output):
                if problem:
                    problems.append(line)
                else:
                    keys.append((image.name, image.size))
                    results.add_line(keys[-1], line)
        separate = args.sep_json or args.format in ("cmu", "open")
        results.finish(keys, args.format, args.eval, separate, is_complete=True)
        (local / FAILURES).write_bytes(b"".join(problems))
        write_parquet(local / TABLE, local / LINES)
        if not output.is_local:
            upload(local, output)
    finally:
        if not output.is_local:
            shutil.rmtree(local)
    failed = f", {len(problems)} pictures failed: see {FAILURES}" if problems else ""
    return f"{args.output}/{RESULTS}: {len(keys)} pictures{failed}"


def write_parquet(path: Path, lines: Path) -> None:
    """One row per person: image, box (4), box_score, keypoints (K x 3)."""
    import pyarrow
    from pyarrow import parquet

    numbers = pyarrow.list_(pyarrow.float32())
    schema = pyarrow.schema([("image", pyarrow.string()), ("box", numbers), ("box_score", pyarrow.float32()),
                             ("keypoints", numbers)])
    with parquet.ParquetWriter(path, schema) as writer, open(lines, "rb") as file:
        file.readline()
        for line in file:
            image = json.loads(line)
            people = [{"image": image["image"], **{name: person[name] for name in schema.names[1:]}}
                      for person in image.get("people", ())]
            if people:
                writer.write_table(pyarrow.Table.from_pylist(people, schema))


def upload(folder: Path, output: Store) -> None:
    for path in [folder / LINES, folder / RESULTS, folder / FAILURES, folder / TABLE,
                 *sorted((folder / SEPARATE).glob("*"))]:
        output.write(path.relative_to(folder).as_posix(), path.read_bytes())
