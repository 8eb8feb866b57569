"""CalibrationTable: the ranges that TensorRT up to 10 finds for int8, as text.

    python3 -m backends.tensorrt.calibration_table CalibrationTable

prints the largest magnitude that each tensor keeps, which is what moves to a QDQ ONNX: TensorRT 11 has no calibrators.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import re
import struct
import sys
from typing import Dict, List, NamedTuple, Optional, Tuple

from contract.arguments import HelpFormatter
from contract.errors import UserError
from contract.files import PathLike

ALGORITHMS = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration"}  # as the first line names them
LEVELS = 127  # of a symmetric int8: what is written is the range over this
_HEADER = re.compile(r"TRT-(\d+)-(\w+)")
_ROW = re.compile(r"(.+): ([0-9a-fA-F]{1,8})")

Version = Tuple[int, int, int]


class Table(NamedTuple):
    """`amax` is the largest magnitude of each tensor that int8 keeps; larger values are cut to it."""

    version: Version
    algorithm: str
    amax: Dict[str, float]


def decode_version(number: int) -> Version:
    """TensorRT's version as one number: 8601 is 8.6.1, and from 10 on, with one digit more, 101602 is 10.16.2."""
    major, rest = divmod(number, 10000 if number >= 100000 else 1000)
    return major, rest // 100, rest % 100


def version_of(text: str) -> Version:
    """Of a package, such as 8.6.1.post1 or 10.16.1.11, as far as tables and logs tell it."""
    numbers = [int(number) for number in re.findall(r"\d+", text)[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))  # type: ignore[return-value]


def dotted(version: Version) -> str:
    return ".".join(map(str, version))


def read_table(path: PathLike) -> Table:
    """Raises UserError when the file is not one that TensorRT wrote, whole."""
    try:
        with open(path, encoding="utf-8") as file:
            first, *lines = file.read().splitlines() or [""]
    except FileNotFoundError:
        raise UserError(f"{path}: no such CalibrationTable. backends.tensorrt.build --calibration makes it") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a CalibrationTable: it holds more than text") from None
    header = _HEADER.fullmatch(first.strip())
    found = [_ROW.fullmatch(line.strip()) for line in lines if line.strip()]
    rows = [row for row in found if row]
    if not header or not rows or len(rows) < len(found):
        raise UserError(f"{path}: not a CalibrationTable, or damaged: expected TRT-VERSION-ALGORITHM in line 1, then "
                        "lines of a tensor's name, a colon and at most 8 hexadecimal digits")
    amax = {row.group(1): LEVELS * struct.unpack(">f", bytes.fromhex(row.group(2).zfill(8)))[0] for row in rows}
    return Table(decode_version(int(header.group(1))), header.group(2), amax)


def check_table(path: PathLike, version: Version, method: str) -> None:
    """Refuse a table that TensorRT `version` would not take with this method, or silently make anew."""
    table = read_table(path)
    for what, came, expected in (("TensorRT", dotted(table.version), dotted(version)),
                                 ("the algorithm", table.algorithm, ALGORITHMS[method])):
        if came != expected:
            raise UserError(f"{path}: a CalibrationTable of {what} {came}, and this build is of {expected}. Make ours: "
                            "python3 -m backends.tensorrt.build MODEL.onnx --precision int8 --calibration BINS, with "
                            "another --calibration_table or none")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.tensorrt.calibration_table",
                                     description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("table", help="CalibrationTable")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    table = read_table(args.table)
    print(f"# {args.table}: TensorRT {dotted(table.version)}, {table.algorithm}, {len(table.amax)} tensors")
    for name, amax in table.amax.items():
        print(f"{amax:.6g}\t{name}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
