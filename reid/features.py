"""Folders of features: one NAME.npy for each crop, (1, D) float32 as FastReID's scripts write it, and features.json,
which says what made them and of what. Features of two models, sizes or ways of resizing must never be mixed."""
from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PathLike, write_file
from contract.records import read_record

RECORD = "features.json"
SUFFIX = ".npy"
MARKET = re.compile(r"(-?\d+)_c(\d+)")  # 0002_c1s1_000451_03.jpg: person 2, camera 1; -1 is junk, 0 a distractor


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of a folder, in the order of their names, and what made them where it is known."""

    folder: Path
    names: List[str]
    values: np.ndarray  # (N, D) float32
    record: Optional[Dict[str, Any]] = None

    def of(self, names: List[str]) -> np.ndarray:
        rows = {name: row for row, name in enumerate(self.names)}
        return self.values[[rows[name] for name in names]]


def holds_features(path: PathLike) -> bool:
    """Whether a folder is one of features. Dumps of a device may be .npy too, but have more than one axis."""
    files = feature_files(path)
    if (Path(path) / RECORD).exists() or not files:
        return bool(files)
    try:
        return _is_feature(np.load(files[0], mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, OSError):
        return True  # and reading it says what is wrong


def feature_files(folder: PathLike) -> List[Path]:
    return sorted(Path(folder).glob(f"*{SUFFIX}"))


def write_feature(folder: PathLike, name: str, feature: np.ndarray) -> None:
    """(D,) float32 as NAME.npy of shape (1, D)."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(feature, np.float32)[None])
    write_file(Path(folder) / f"{name}{SUFFIX}", stream.getbuffer())


def read_features(folder: PathLike) -> Features:
    """All features of a folder. Raises UserError for a file that is cut short, not finite or of another dimension."""
    folder = Path(folder)
    paths = feature_files(folder)
    if not paths:
        raise UserError(f"{folder}: no features ({SUFFIX} files). python3 -m reid.extract writes them")
    values = [_read(path) for path in paths]
    sizes = {len(row): path for row, path in zip(values, paths)}
    if len(sizes) > 1:
        told = ", ".join(f"{path.name} {size}" for size, path in sizes.items())
        raise UserError(f"{folder}: features of different dimensions ({told}): of two models. Extract them again into "
                        "an empty folder")
    return Features(folder, [path.stem for path in paths], np.stack(values), read_record(folder / RECORD))


def _read(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: expected an array of numpy, but {' '.join(str(error).split())}") from None
    if not _is_feature(values):
        raise UserError(f"{path}: {values.dtype} of shape {values.shape}, expected one feature, (1, D) float32")
    row = values.reshape(-1).astype(np.float32)
    if not np.isfinite(row).all():
        raise UserError(f"{path}: {int((~np.isfinite(row)).sum())} of {row.size} values are NaN or infinite")
    return row


def _is_feature(values: np.ndarray) -> bool:
    return values.dtype.kind in "fiu" and values.ndim > 0 and values.size == values.shape[-1]


def identities(names: List[str]) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Person and camera of every name of Market-1501's form; None where a name has another form."""
    found = [MARKET.match(name) for name in names]
    if not all(found):
        return None
    people, cameras = (np.array([int(match[group]) for match in found if match]) for group in (1, 2))
    return people, cameras
