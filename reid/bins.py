"""Crops as bins and dumps as features, for what runs a model from files to files: infer.py, ais_bench, trtexec.

Beside the manifest of the bins lies images.json, which says whose crop each row is.
"""
from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from contract.bins import BinFolder, RowWriter
from contract.dumps import DumpReader
from contract.errors import UserError
from contract.files import PathLike, make_folder, read_json, sha256_of_rows, write_json
from contract.locks import hold
from contract.manifest import MANIFEST, Manifest, load_manifest, settings_of
from contract.progress import Progress
from contract.threads import in_order
from reid.images import Crop, read_row
from reid.spec import ReidSpec

IMAGES = "images.json"  # name -> what `Crop.describe` says, in the order of the rows
NOT_OF_NUMBERS = ("format", "bins", "outputs")  # of the settings beside dumps


def write_bins(folder: PathLike, crops: List[Crop], spec: ReidSpec, batch: int, workers: int, replace: bool) -> int:
    """Write the bins that are missing, `batch` crops in each, and say how many that were. Raises UserError where the
    folder holds bins of other crops or settings, unless they are to be replaced."""
    images = {crop.name: crop.describe() for crop in crops}
    manifest = Manifest(settings_of(spec, batch, images_sha256=_digest(images)), {"number": np.arange(len(crops))})
    folder = make_folder(folder)
    with hold(folder):
        bins = BinFolder(folder, manifest, replace)
        bins.open()
        write_json(folder / IMAGES, images)
        writer = RowWriter(folder, manifest)
        rows = [row for number in bins.missing
                for row in range(number * batch, number * batch + manifest.rows(number))]
        with ThreadPoolExecutor(workers) as pool, Progress(total=len(rows), unit="person", desc="bins") as bar:
            for _ in in_order(pool, lambda row: writer.put(row, read_row(crops[row], spec)), rows, workers + 1):
                bar.update(1)
        bins.close()
    return len(bins.missing)


def open_dumps(bins: PathLike, dumps: PathLike) -> Tuple[Dict[str, Any], DumpReader]:
    """Name -> description of every crop of the bins, and the reader of their dumps."""
    manifest, images = load_manifest(Path(bins) / MANIFEST), read_json(Path(bins) / IMAGES, "names of the crops")
    if manifest.settings.get("images_sha256") != _digest(images):
        raise UserError(f"{Path(bins) / IMAGES}: not of the bins beside it. Write them again: python3 -m reid.extract "
                        "--bins, with --replace")
    return images, DumpReader(Path(dumps), manifest)


def settings_of_dumps(reader: DumpReader) -> Dict[str, Any]:
    """What decides the features that dumps hold. ais_bench alone says nothing of its model: then it is the files."""
    states = [(name, os.stat(reader.folder / name)) for name in reader.names]
    made = reader.settings or {"files": sha256_of_rows((name, state.st_size, state.st_mtime_ns)
                                                       for name, state in states)}
    bins = reader.manifest.settings
    return {**{key: value for key, value in made.items() if key not in NOT_OF_NUMBERS}, "dtype": bins["dtype"],
            **bins["config"]}


def _digest(images: Any) -> str:
    return sha256_of_rows([(json.dumps(images),)])
