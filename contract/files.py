"""Files that are either complete or absent.

Every result is written under a temporary name and renamed when it is complete. So a stage that is killed at any moment
leaves no file that only looks complete. Modes are what newer ais_bench releases accept: files 0640, folders 0750.
"""
from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Iterable, Optional, Union

from contract.errors import UserError

FILE_MODE, FOLDER_MODE = 0o640, 0o750
PARTIAL = ".tmp"  # ais_bench reads *.bin and *.npy only, so it never takes a partial file for an input
GZIP = b"\x1f\x8b"
_LEFTOVER = re.compile(r"(.+)\.[0-9a-f]{8}" + re.escape(PARTIAL), re.DOTALL)

PathLike = Union[str, "os.PathLike[str]"]


def make_folder(path: PathLike) -> Path:
    """Create `path` and its parents, each 0750. An existing folder stays unchanged."""
    path = Path(path)
    for folder in [*reversed(path.parents), path]:
        try:
            os.mkdir(folder, FOLDER_MODE)
        except OSError:
            if not folder.is_dir():
                raise
    return path


def require_writable(folder: PathLike) -> None:
    """Raises OSError now, instead of hours later, if nothing can be written into `folder`, which may not exist yet."""
    place = Path(os.path.abspath(folder))
    while not place.exists():
        place = place.parent
    code = errno.ENOTDIR if not place.is_dir() else 0 if os.access(place, os.W_OK | os.X_OK) else errno.EACCES
    if code:
        raise OSError(code, os.strerror(code), os.fspath(place))


def write_file(path: PathLike, *parts: Any) -> None:
    """Write bytes (anything with the buffer protocol), one after the other, so that `path` is whole or not there."""
    partial = f"{os.fspath(path)}.{os.urandom(4).hex()}{PARTIAL}"  # two runs that write it do not mix
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE), "wb") as file:
            file.writelines(parts)
        os.replace(partial, path)
    except OSError as error:  # a full disk raises from write() without a file name
        remove_file(partial)
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    except BaseException:
        remove_file(partial)
        raise


def remove_leftovers(output: PathLike) -> None:
    """Remove what killed runs have left of writing `output`, a file and those named after it, or the files of a folder.

    For the one run that works there, see `contract.locks`.
    """
    folder, prefix = (output, "") if os.path.isdir(output) else (Path(output).parent, f"{Path(output).name}.")
    for entry in list(os.scandir(folder)):
        match = _LEFTOVER.fullmatch(entry.name)
        if match and f"{match.group(1)}.".startswith(prefix):
            remove_file(entry.path)


def remove_file(path: PathLike) -> None:
    """Remove `path` if it is there."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass


def write_json(path: PathLike, value: Any, indent: Optional[int] = 1) -> None:
    write_file(path, (json.dumps(value, indent=indent) + "\n").encode())


def read_json(path: PathLike, what: str) -> Any:
    """Parse a JSON file; `what` names its role ("detections") in the error."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        return json.loads(content)
    except FileNotFoundError:
        raise UserError(f"{path}: no such {what} file") from None
    except (ValueError, RecursionError) as error:  # no JSON, no text, digits without end, brackets without end
        if content.startswith(GZIP):
            raise UserError(f"{path}: expected JSON ({what}), but it is compressed by gzip. Run gunzip, and name the "
                            "file that it leaves") from None
        raise UserError(f"{path}: expected JSON ({what}), but {error}") from None


def read_text(path: PathLike, what: str) -> str:
    """A text file that another tool wrote; `what` names its role ("darknet .cfg") in the error.

    UTF-8, with or without a byte order mark; UTF-16, as Windows PowerShell's `>` writes; else GB18030, which GBK is
    part of.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such {what} file") from None
    encodings = ["utf-16"] if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ["utf-8-sig", "gb18030"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise UserError(f"{path}: expected a {what} (text), but it is not text")


def sha256_of_rows(rows: Iterable[tuple]) -> str:
    """Digest of a table with one line per row. It tells folders apart by the names and sizes of their files."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update((" ".join(map(str, row)) + "\n").encode())
    return digest.hexdigest()


def sha256_of_file(path: PathLike) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
