"""The tar files of a kit and of its results: the same bytes for the same files, and unpacked into one folder alone.

Runs on the server too: Python 3.7 and its own library. Each has one top folder, whatever the tar is called, and in it
SHA256SUMS as the last file, in the format of sha256sum: where it is missing, the tar was cut off.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import secrets
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from contract.errors import UserError
from contract.files import FILE_MODE, PARTIAL, PathLike, make_folder, remove_file, sha256_of_file, write_file

SUMS = "SHA256SUMS"
TIME = 946684800  # of every file: the start of 2000, which no clock takes for the future and no tar for nonsense
BLOCK = 1 << 20
Content = Union[bytes, Path]


class _Hashing:
    """A file that is read once, by tarfile, which tells the digest of what it read."""

    def __init__(self, file: Any, heard: Callable[[int], None]):
        self.file, self.heard, self.digest = file, heard, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        self.heard(len(data))
        return data


def write_tar(path: PathLike, top: str, files: Mapping[str, Content],
              heard: Callable[[int], Any] = lambda count: None) -> str:
    """Write `files`, name below `top` -> content or where it is, in the order of their names, and SHA256SUMS.

    `heard` is told the bytes as they are read. Returns the digest of SHA256SUMS, which tells this content from any
    other.
    """
    partial = f"{os.fspath(path)}.{secrets.token_hex(4)}{PARTIAL}"
    sums: Dict[str, str] = {}
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as raw, \
                tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name in sorted(files):
                sums[name] = _add(tar, f"{top}/{name}", files[name], heard)
            text = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
            _add(tar, f"{top}/{SUMS}", text, heard)
        os.replace(partial, path)
    except OSError as error:  # a full disk raises without a file name
        remove_file(partial)
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    except BaseException:
        remove_file(partial)
        raise
    return hashlib.sha256(text).hexdigest()


def _add(tar: tarfile.TarFile, name: str, content: Content, heard: Callable[[int], None]) -> str:
    member = tarfile.TarInfo(name)
    member.mtime, member.mode = TIME, FILE_MODE
    with io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as file:
        member.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        hashing = _Hashing(file, heard)
        tar.addfile(member, hashing)  # type: ignore[arg-type]
    return hashing.digest.hexdigest()


def tar_bytes(sizes: List[int]) -> int:
    """Of a tar of files of these sizes: each has a block of 512 bytes before it, and is filled up to the next one."""
    return sum(512 + -(-size // 512) * 512 for size in sizes) + 1024


def split(path: Path, size: int) -> Path:
    """Cut a file into parts of `size` bytes, PATH.001, PATH.002, ..., in its place. Returns the file of their digests,
    for `sha256sum --check`, which says how to join them."""
    whole, sums = sha256_of_file(path), []
    with open(path, "rb") as source:
        for number in itertools.count(1):
            part = path.with_name(f"{path.name}.{number:03d}")
            digest = _copy_part(source, part, size)
            if digest is None:
                break
            sums.append(f"{digest}  {part.name}")
    listing = path.with_name(f"{path.name}.sha256")
    write_file(listing, "\n".join([
        "# On the server, with all parts and this file in one folder:",
        f"#     sha256sum --check {listing.name} && cat {path.name}.[0-9]* > {path.name}",
        f"#     echo '{whole}  {path.name}' | sha256sum --check && tar xf {path.name}", *sums, ""]).encode())
    remove_file(path)
    return listing


def _copy_part(source: Any, part: Path, size: int) -> Optional[str]:
    """Write the next `size` bytes of an open file; their digest, None where there are no more."""
    digest, left = hashlib.sha256(), size
    block = source.read(min(BLOCK, left))
    if not block:
        return None
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as file:
        while block:
            file.write(block)
            digest.update(block)
            left -= len(block)
            block = source.read(min(BLOCK, left))
    return digest.hexdigest()


def unpack(path: PathLike, top: str, folder: Path) -> None:
    """Unpack the tar at `path`, made by `write_tar`, so that `folder` is its `top`. Raises UserError for what is no
    such tar, is cut off, or has a member that would be no plain file below `folder`: nothing else is written."""
    with _reading(path):
        for name, tar, member in _members(path, top):
            _write(tar.extractfile(member), folder.joinpath(*name.parts))


def read_one(path: PathLike, top: str, wanted: str) -> bytes:
    """The content of one file in a tar. Raises UserError as `unpack`, and where it is not there."""
    with _reading(path):
        for name, tar, member in _members(path, top):
            if str(name) == wanted:
                file = tar.extractfile(member)
                assert file is not None  # it is a plain file
                return file.read()
    raise UserError(f"{path}: has no {top}/{wanted}. Is it the right file, and complete?")


@contextlib.contextmanager
def _reading(path: PathLike) -> Iterator[None]:
    """A tar may end in the middle of a file, too."""
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{path}: not a tar file, or cut off ({error}). Copy it again") from None


def _members(path: PathLike, top: str) -> Iterator[Tuple[PurePosixPath, tarfile.TarFile, tarfile.TarInfo]]:
    """Name below `top`, the open tar and the member, of each."""
    with tarfile.open(path) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            inside = len(name.parts) > 1 and name.parts[0] == top and ".." not in name.parts and \
                "\\" not in member.name and "\0" not in member.name
            if not inside or not member.isreg():
                raise UserError(f"{path}: holds {member.name!r:.100}, expected plain files in {top}/. It was not "
                                "made by this project, and nothing more of it is used")
            yield name.relative_to(top), tar, member


def _write(source: Any, path: Path) -> None:
    make_folder(path.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(path, flags, FILE_MODE), "wb") as file:
        for block in iter(lambda: source.read(BLOCK), b""):
            file.write(block)


def read_sums(folder: Path, tar: Optional[PathLike] = None) -> Dict[str, str]:
    """Name -> digest, as SHA256SUMS of an unpacked `tar` has them. Raises UserError where it is not there."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        raise UserError(f"{tar or folder}: has no {SUMS}, which is the last file of its tar: it was cut off, or only a "
                        "part was unpacked. Copy and unpack it again") from None
    pairs = [line.split("  ", 1) for line in lines]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{folder / SUMS}: expected a digest and a name on each line. Unpack the tar again")
    return {name: digest for digest, name in pairs}


def identity(folder: Path) -> str:
    """Which kit was unpacked here, or which results."""
    return sha256_of_file(folder / SUMS)
