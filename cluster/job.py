"""predict.py --distributed: list the images, hand shards to workers, and join what they wrote."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from argparse import Namespace
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from backends.rooms import backend_of
from cluster.inputs import list_entries
from cluster.nodes import check_nodes, connect, import_ray, needs_of
from cluster.shards import FOLDER, Shard, is_done, lines_of, split, to_json
from cluster.store import Store, is_url
from cluster.worker import NETWORKS, PredictShard
from contract.errors import UserError
from contract.locks import hold
from contract.progress import Progress
from contract.tables import format_table
from contract.threads import in_order
from pose.alphapose_results import image_number
from pose.spec import load_spec
from prediction.assembly import make_finder, make_poser, settings_of
from prediction.output import LINES, RESULTS, SEPARATE, Results

FILES = ("model", "cfg", "weights", "yolo_cfg")  # which every machine needs
FAILURES, TABLE = "failures.jsonl", "people.parquet"
READERS = 8  # shards that are read at once while all are joined
MILLION = 1e6


def predict_on_cluster(args: Namespace) -> None:
    """Raises UserError for what predict.py refuses, for a cluster that cannot do the job, and past --max_failures."""
    ray = import_ray()
    args = absolute(args)
    output = Store(args.output)
    entries = list_entries(args.inputs, args.output, args.shard)
    if args.eval or args.format == "coco":
        for entry in entries:
            if entry.is_picture:
                image_number(entry.name)
    settings = settings_of(args, make_finder(args, False), make_poser(args, False))
    shards = split(entries, args.shard)
    with hold(args.output) if output.is_local else contextlib.nullcontext():
        there = set() if args.replace else output.names(FOLDER)
        missing = [shard for shard in shards if shard.file not in there or not is_done(shard, output, settings)]
        tally = run(ray, args, missing, shards, settings) if missing else None
        report = join(args, output, shards, settings)
    print(f"{tally.table(args.price)}\n{report}" if tally else f"{report}; nothing was left to do")


def absolute(args: Namespace) -> Namespace:
    """With paths that every process finds, wherever Ray starts it."""
    changed = vars(args).copy()
    for name in ("output", *FILES):
        value = changed[name]
        changed[name] = value if is_url(str(value)) else os.path.abspath(value)
    return Namespace(**changed)


class Tally:
    """What the workers of one run have done."""

    def __init__(self, workers: int):
        self.workers, self.start = workers, time.monotonic()
        self.sums: Counter = Counter()  # of what PredictShard returns
        self.kilobytes = 0
        self.processes: set = set()

    def add(self, row: Dict[str, Any]) -> None:
        self.sums.update({name: row[name] for name in ("images", "people", "failed", "seconds", *NETWORKS)})
        self.kilobytes = max(self.kilobytes, row["kilobytes"])
        self.processes.add(row["process"])

    def table(self, price: Optional[float]) -> str:
        """What was done, how fast, how busy the workers and their networks were, the memory of the largest worker, and
        the cost of a million images at a price for a worker's hour."""
        seconds, images, people = time.monotonic() - self.start, self.sums["images"], self.sums["people"]
        row = {"images": images, "people": people, "failed": self.sums["failed"], "workers": self.workers,
               "restarted": max(0, len(self.processes) - self.workers), "images/s": f"{images / seconds:.1f}",
               "people/s": f"{people / seconds:.1f}",
               "people/s per worker": f"{people / seconds / max(self.workers, 1):.1f}"}
        for name, title in {"seconds": "at work", "detect": "detector at work", "pose": "pose network at work"}.items():
            row[title] = f"{self.sums[name] / seconds / self.workers:.0%}" if images else "-"
        row["largest worker"] = f"{self.kilobytes / 1024:.0f} MiB"
        if price is not None:
            row["cost of a million images"] = f"{price * self.workers * seconds / 3600 * MILLION / images:.2f}" \
                if images else "-"
        return format_table(list(row), [list(row.values())])


def run(ray: Any, args: Namespace, missing: List[Shard], shards: List[Shard], settings: Dict[str, Any]) -> Tally:
    connect(ray, args.distributed)
    try:
        backend = args.backend or backend_of(args.model)
        workers, needs = needs_of(ray, backend, args.device, args.workers)
        backends = dict.fromkeys([backend, settings["detector"]["backend"]] if settings["detector"] else [backend])
        check_nodes(ray, needs, list(backends), {f"--{name}": getattr(args, name) for name in FILES})
        workers = min(workers, len(missing))
        tally = Tally(workers)
        total, left = (sum(shard.images for shard in some) for some in (shards, missing))
        known = all(shard.images for shard in shards)  # how many are in a tar file is seen when it is read
        with Progress(total=total if known else None, initial=total - left, unit="image", desc="predict") as bar:
            for row in done_by(ray, args, missing, settings, workers, needs):
                tally.add(row)
                bar.update(row["images"])
                failed = tally.sums["failed"]
                if args.max_failures is not None and failed > args.max_failures:
                    raise UserError(f"{failed} images cannot be read, more than --max_failures {args.max_failures}. "
                                    f"The shards in {args.output} name them")
        return tally
    finally:
        ray.shutdown()


def done_by(ray: Any, args: Namespace, missing: List[Shard], settings: Dict[str, Any], workers: int,
            needs: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """What `PredictShard` returns of each shard, in the order in which they end. A shard whose worker or machine died
    is done again by another."""
    class FindAndPose(PredictShard):  # carries its arguments, so that Ray can start another one at any time
        def __init__(self) -> None:
            super().__init__(args, settings)

    rows = [{"shard": to_json(shard)} for shard in missing]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        FindAndPose, compute=ray.data.ActorPoolStrategy(size=workers), **needs)
    done.set_name("predict")  # in Ray's dashboard, with the class
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
        with ThreadPoolExecutor(READERS) as pool:
            for content in in_order(pool, lambda shard: output.read(shard.file), shards, READERS):
                for key, line, problem in lines_of(content):
                    if problem:
                        problems.append(line)
                    else:
                        keys.append(key)
                        results.add_line(key, line)
        separate = args.sep_json or args.format in ("cmu", "open")
        results.finish(keys, args.format, args.eval, separate, is_complete=True)
        (local / FAILURES).write_bytes(b"".join(problems))
        write_parquet(local / TABLE, local / LINES)
        if not output.is_local:
            upload(local, output)
    finally:
        if not output.is_local:
            shutil.rmtree(local)
    failed = f", {len(problems)} failed: see {FAILURES}" if problems else ""
    return f"{args.output}/{RESULTS}: {len(keys)} images{failed}"


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
