"""Int8 calibration on our own bins, up to TensorRT 10: which table is used, and what feeds the builder."""
from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import numpy as np

from backends.tensorrt import cuda
from backends.tensorrt.calibration_table import Version, check_table, dotted, read_table
from backends.tensorrt.source import Source
from contract.bins import BinReader, spread
from contract.errors import UserError
from contract.files import remove_file, sha256_of_file, write_file, write_json
from contract.onnx_file import load_onnx, names_of_tensors
from contract.progress import Progress
from contract.records import read_record
from contract.spec import load_spec

RECORD = ".json"  # appended to the table's name
UNNAMED = "(Unnamed Layer"  # begins TensorRT's names for what an ONNX file has no name for
RANGE_TOLERANCE = 1.01  # a calibrator cuts ranges, and never makes them larger


class Calibration(NamedTuple):
    """What the ranges of int8 come from: the table if it exists, else these bins, from which it is then made."""

    table: Path
    method: str
    bins: Optional[BinReader]
    numbers: List[int]  # of the bins to read
    batch: int
    origin: Dict[str, Any]  # of a table made from the bins

    def describe(self) -> Dict[str, Any]:
        """For the engine's record."""
        digest = sha256_of_file(self.table) if self.table.exists() else None
        return {"method": self.method, "table": str(self.table), "table_sha256": digest}


def plan_calibration(args: argparse.Namespace, source: Source, batch: int, output: Path, version: Version,
                     onnx_sha256: str) -> Calibration:
    """Raises UserError for a table of another network, and if there is nothing to calibrate with."""
    table = table_of(args, output)
    bins, numbers, origin = None, [], {}
    if args.calibration:
        bins = BinReader(Path(args.calibration), load_spec(args.cfg))
        check_bins(bins, source, batch, args.calibration_people)
        numbers = spread(bins, args.calibration_people)
        origin = {"onnx_sha256": onnx_sha256, "tensorrt": dotted(version), "method": args.calibration_method,
                  "batch": batch, "people": args.calibration_people, **bins.origin()}
    earlier = read_origin(table) if table.exists() else None
    if bins is not None and earlier is not None and earlier != origin:  # made here, of other
        remove_file(table)
        remove_file(f"{table}{RECORD}")
    elif earlier is not None and earlier.get("onnx_sha256") != onnx_sha256:
        raise UserError(f"{table}: made from another ONNX file. Give --calibration a folder of bins to make "
                        "it again, or name another --calibration_table")
    if table.exists():
        check_table(table, version, args.calibration_method)
        check_tensors(table, Path(args.model), source)
        if bins is not None and earlier is None:
            raise UserError(f"{table}: is there already, and is not known to be made from these bins and this "
                            "ONNX file. Leave --calibration out to use it unchanged, or name another "
                            "--calibration_table")
    elif bins is None:
        raise UserError(f"{table}: no such CalibrationTable. Give --calibration a folder of bins to make it, "
                        "--calibration_table one that is there, or build an ONNX file with QuantizeLinear")
    return Calibration(table, args.calibration_method, bins, numbers, batch, origin)


def check_tensors(path: Path, model: Path, source: Source) -> None:
    """Refuse a table of another network, or of another normalisation of its input, which TensorRT would use."""
    amax = read_table(path).amax
    known = names_of_tensors(load_onnx(model, weights=False))
    others = [name for name in amax if name not in known and not name.startswith(UNNAMED)]
    if source.name not in amax or 2 * len(others) > len(amax):
        raise UserError(f"{path}: a CalibrationTable of other tensors ({', '.join([*others, *amax][:3])}, ...) than "
                        f"those of {model}, whose input is {source.name}. Give --calibration a folder of bins, and "
                        "another --calibration_table or none")
    if source.largest is not None and amax[source.name] > RANGE_TOLERANCE * source.largest:
        raise UserError(f"{path}: a CalibrationTable of another range: its {source.name} goes up to "
                        f"{amax[source.name]:.4g}, and normalised as {model} wants it, it goes up to "
                        f"{source.largest:.4g}. Calibrate on the bins that the engine will get")


def table_of(args: argparse.Namespace, output: Path) -> Path:
    return Path(args.calibration_table or output.with_suffix(".calibration"))


def read_origin(table: Path) -> Optional[Dict[str, Any]]:
    """What a table was made from. None means that another tool of TensorRT made it."""
    return read_record(f"{table}{RECORD}")


def check_bins(bins: BinReader, source: Source, batch: int, people: int) -> None:
    """Refuse bins that the network does not take, and too few of them for one batch."""
    rows = bins.read(range(1))
    if rows.shape[1:] != source.shape[1:] or rows.dtype.name != source.dtype:
        raise UserError(f"{bins.folder}: bins of {rows.shape[1:]} {rows.dtype.name}, but the ONNX takes "
                        f"{source.shape[1:]} {source.dtype}. Calibrate with the bins that the engine will get")
    if min(sum(bins.rows), people) < batch:
        raise UserError(f"{bins.folder}: holds {sum(bins.rows)} people, and --calibration_people is {people}, but one "
                        f"batch is {batch}. Give more, or build for a smaller batch")


def batches(bins: BinReader, numbers: List[int], batch: int) -> Iterator[np.ndarray]:
    """The people of these bins, `batch` at a time; a rest that does not fill one is left out."""
    waiting: List[np.ndarray] = []
    for number in numbers:
        waiting.append(bins.read(range(number, number + 1)))
        if sum(map(len, waiting)) >= batch:
            rows = np.concatenate(waiting)
            whole = len(rows) // batch * batch
            yield from np.split(rows[:whole], whole // batch)
            waiting = [rows[whole:]]


@contextlib.contextmanager
def open_calibrator(tensorrt: Any, calibration: Calibration, source: Source) -> Iterator[Any]:
    """The object that the builder asks for batches and for the table, with device memory for one batch."""
    row_bytes = int(np.prod([size or 0 for size in source.shape[1:]])) * np.dtype(source.dtype).itemsize
    address = cuda.malloc(calibration.batch * row_bytes)
    calibrator = make_calibrator(tensorrt, calibration, address)
    try:
        yield calibrator
    finally:
        cuda.free(address)
        if calibrator.error is not None:
            raise calibrator.error from None


def make_calibrator(tensorrt: Any, calibration: Calibration, address: int) -> Any:
    """An exception does not get through TensorRT, so that of a call is kept in `error`."""
    base: Any = {"entropy": tensorrt.IInt8EntropyCalibrator2,
                 "minmax": tensorrt.IInt8MinMaxCalibrator}[calibration.method]
    bins = calibration.bins
    rows = sum(bins.rows[number] for number in calibration.numbers) if bins else 0
    feed = iter(Progress(batches(bins, calibration.numbers, calibration.batch) if bins else (), "calibrating",
                         unit="batch", total=rows // calibration.batch, disable=not rows))

    class Calibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # TensorRT needs its own, called by name
            self.error: Optional[BaseException] = None

        def get_batch_size(self) -> int:
            return calibration.batch

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            try:
                rows = next(feed, None)
                if rows is not None:
                    cuda.copy(address, rows)
            except Exception as error:
                self.error, rows = error, None
            return None if rows is None else [address]

        def read_calibration_cache(self) -> Optional[bytes]:
            return calibration.table.read_bytes() if calibration.table.exists() else None

        def write_calibration_cache(self, cache: Any) -> None:
            try:
                if self.error is None:  # or the table is of fewer batches
                    write_file(calibration.table, bytes(cache))
                    write_json(f"{calibration.table}{RECORD}", calibration.origin)
            except Exception as error:
                self.error = error

    return Calibrator()
