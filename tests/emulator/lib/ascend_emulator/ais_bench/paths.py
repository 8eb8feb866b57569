"""The path rules of the 2024 generation."""
from __future__ import annotations

import os
import re
import stat
from typing import IO, Optional

from .log import GREEN, PLAIN, SOLUTION, logger

TOTAL_LENGTH, NAME_LENGTH = 4096, 255
ILLEGAL = re.compile(r"[^_A-Za-z0-9/.-]")
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
FILE_MODE, FOLDER_MODE = 0o640, 0o750
LIMITS = {"om": 10 << 30, "json": 8 << 10, "config": 12.5 * 1024}
WIKI = '"gitee repo: Ascend/ait, wikis: ait_security_error_log_solution, chapter:{}_error_log_solution"'


class OpenException(Exception):
    """A path that must not be opened; named in tracebacks as in the real package."""
    __module__ = "ais_bench.infer.path_security_check"


def refuse(reason: str, chapter: str = "") -> bool:
    logger.error(reason)
    if chapter:
        logger.log(SOLUTION, f"visit {GREEN} {WIKI.format(chapter)} {PLAIN} for detailed solution")
    return False


def legal_string(path: str) -> bool:
    """Length and characters."""
    advice = "please check the file(or directory) path"
    if len(path) > TOTAL_LENGTH:
        return refuse(f"file total path{path} length out of range ({TOTAL_LENGTH}), {advice}", "path_length_overflow")
    for name in path.split("/"):
        if len(name) > NAME_LENGTH:
            return refuse(f"file name{name} length out of range ({NAME_LENGTH}), {advice}", "path_length_overflow")
    if ILLEGAL.search(path):
        return refuse(f"path:{path} contains illegal char, legal chars include A-Z a-z 0-9 _ - / .",
                      "path_contain_illegal_char")
    return True


class Stat:
    """A path whose string is legal; OpenException otherwise."""

    def __init__(self, path: str):
        if not legal_string(path):
            raise OpenException("create FileStat failed")
        self.path = path
        self.stat = os.stat(path) if os.path.exists(path) else None

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.stat.st_mode)

    def is_folder(self) -> bool:
        return self.stat is not None and stat.S_ISDIR(self.stat.st_mode)

    def is_file(self) -> bool:
        return self.stat is not None and stat.S_ISREG(self.stat.st_mode)

    def is_owner(self) -> bool:
        return self.stat is not None and self.stat.st_uid == os.geteuid()

    def legal(self, purpose: str) -> bool:
        """For reading or writing; says why not."""
        if self.stat is None:
            return purpose == "write" or refuse(
                f"path: {self.path} not exist, please check if file or dir is exist")
        if os.path.islink(self.path):
            return refuse(f"path :{self.path} is a soft link, not supported, please import file(or directory) directly",
                          "soft_link")
        if not self.is_owner() and self.stat.st_gid not in os.getgroups():
            return refuse(f"current user isn't path:{self.path}'s owner or ownergroup, make sure current user belong "
                          "to file(or directory)'s owner or ownergroup", "owner_or_ownergroup")
        side = "import" if purpose == "read" else "export"
        if self.mode & WRITABLE_BY_OTHERS:
            return refuse(f"The file {self.path} is group writable, or is others writable, as {side} file(or "
                          "directory), permission should not be over 0o755(rwxr-xr-x)", "path_permission")
        return self._accessible(purpose, side)

    def _accessible(self, purpose: str, side: str) -> bool:
        if purpose == "read" and not (os.access(self.path, os.R_OK) and self.mode & stat.S_IRUSR):
            return refuse(f"Current user doesn't have read permission to the file {self.path}, as {side} file(or "
                          "directory), permission should be at least 0o400(r--------) ", "path_permission")
        if purpose == "write" and not os.access(self.path, os.W_OK):
            return refuse(f"Current user doesn't have write permission to the file {self.path}, as {side} file(or "
                          "directory), permission should be at least 0o200(-w-------) ", "path_permission")
        return True

    def legal_kind(self, ending: str) -> bool:
        """A file with this ending, not over its limit."""
        if not self.is_file():
            return refuse(f"path: {self.path} is not a file")
        if os.path.splitext(self.path)[1] != f".{ending}":
            return refuse(f"path:{self.path}, file type not in {[ending]}")
        if self.stat.st_size > LIMITS[ending]:
            return refuse(f"file_size:{self.stat.st_size} byte out of max limit {LIMITS[ending]} byte")
        return True


def legal_option(path: str, purpose: str, ending: Optional[str] = None) -> bool:
    """Of an option value, before anything is opened."""
    try:
        found = Stat(path)
    except OpenException:
        return False
    return found.legal(purpose) and (ending is None or found.legal_kind(ending))


def open_new(path: str, mode: str = "w") -> IO:
    """A file made anew with mode 0640; an existing one must be the caller's and is removed."""
    found = Stat(path)
    if found.is_folder():
        raise OpenException(f"Expecting a file, but it's a folder. {path}")
    if found.stat is not None:
        if not found.is_owner():
            raise OpenException("The file owner is inconsistent with the current process user and is not allowed to "
                                f"write. {path}")
        os.remove(path)
    if os.path.islink(path):
        raise OpenException(f"Softlink is not allowed to be opened. {path}")
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, FILE_MODE), mode)


def open_to_read(path: str, limit: int) -> IO:
    found = Stat(path)
    if found.is_folder():
        raise OpenException(f"Expecting a file, but it's a folder. {path}")
    if found.stat is None:
        raise OpenException(f"No such file or directory {path}")
    if found.stat.st_size > limit:
        raise OpenException(f"The file size has exceeded the specifications and cannot be read. {path}")
    if os.path.islink(path):
        raise OpenException(f"Softlink is not allowed to be opened. {path}")
    return open(path, "rb")
