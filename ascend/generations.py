"""The two generations of ais_bench: which one is installed, and which paths it takes.

That of 2023 and pyACL take any path. That of 2024 refuses many, with exit code 2 or after it has loaded the model.
"""
from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Iterable, Optional

from ascend import cann
from contract.errors import UserError
from contract.files import PathLike

OLD, NEW = "2023", "2024"  # generations; their packages have the same version number
ONLY_IN_NEW = "infer/args_adapter.py"
LEGAL = re.compile(r"[_A-Za-z0-9/.-]+")
LONGEST_NAME, LONGEST_PATH = 255, 4096
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def find_generation() -> str:
    """Which ais_bench is installed. Raises UserError when none is."""
    python = cann.ask_python()
    missing = [name for name in ("ais_bench", "aclruntime") if not python["modules"][name]]
    if missing:
        raise UserError(f"{python['executable']} has no {missing[0]}. Install the wheels of ais_bench and aclruntime "
                        "for it, or use --runner acl, which needs neither")
    return NEW if (Path(python["modules"]["ais_bench"]) / ONLY_IN_NEW).exists() else OLD


def check_paths(paths: Iterable[PathLike]) -> None:
    """Raises UserError for the first that ais_bench would refuse, with the command that fixes it."""
    groups = {os.getgid(), *os.getgroups()}
    for path in [os.fspath(path) for path in paths]:
        problem = _problem(path, os.lstat(path), groups)
        if problem:
            raise UserError(f"{path}: this ais_bench refuses it: {problem}, or use --runner acl, which accepts it")


def _problem(path: str, status: os.stat_result, groups: set) -> Optional[str]:
    if not LEGAL.fullmatch(path):
        return "only _ A-Z a-z 0-9 / . - may be in a path. Move it elsewhere"
    if len(path) > LONGEST_PATH or any(len(name) > LONGEST_NAME for name in path.split("/")):
        return f"a path has at most {LONGEST_PATH} characters and a name {LONGEST_NAME}. Move it elsewhere"
    if stat.S_ISLNK(status.st_mode):
        return "it is a symlink. Copy what it points to (cp -L)"
    if status.st_uid != os.getuid() and status.st_gid not in groups:
        return f"it belongs to user {status.st_uid}, and you are {os.getuid()}. chown it"
    if status.st_mode & WRITABLE_BY_OTHERS:
        return f"others may write it ({stat.S_IMODE(status.st_mode):04o}). chmod go-w it"
    return None
