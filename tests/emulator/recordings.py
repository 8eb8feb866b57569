"""Replaying a recording of the real ais_bench package (golden/ais_bench) on the emulator."""
from __future__ import annotations

import hashlib
import io
import itertools
import math
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from tests.emulator import HERE, environment

CROP, SEED, PEOPLE = (3, 256, 192), 20260, 12
# What a recording does not say in its fields and its output shows: the release of aclruntime, files of somebody else,
# gears of a model.
TOO_OLD = re.compile(r"aclruntime(?: version:)?([\d.]+)(?: version)? is lower")
ABSENT = re.compile(r"can't find aclruntime|aclruntime version:None")
FOREIGN = re.compile(r"current user isn't path:(\S+)'s owner")
GEARS = re.compile(r"model has dynamic batch size:\{\[([\d\]\[]+)\]\}")
SOMEBODY = 12345


class Result(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


def known_contents() -> Iterator[bytes]:
    """What the input files of the recordings may hold: crops of one generator, in several types."""
    rng = np.random.default_rng(SEED)
    crops = [rng.standard_normal(CROP, np.float32) for _ in range(PEOPLE)]
    for crop in crops:
        yield crop.tobytes()
        yield crop.astype(np.float64).tobytes()
        for array in (crop, crop[None], crop.astype(np.float64), crop[None].astype(np.float64)):
            file = io.BytesIO()
            np.save(file, array)
            yield file.getvalue()
    for first, second in zip(crops[::2], crops[1::2]):
        yield first.tobytes() + second.tobytes()


class Contents:
    """sha256 -> bytes."""

    def __init__(self) -> None:
        self.known = {hashlib.sha256(data).hexdigest(): data for data in known_contents()}

    def get(self, size: int, sha256: str) -> bytes:
        """Other sizes are the first bytes of the generator, or zeros; KeyError where neither is what was recorded."""
        stream = np.random.default_rng(SEED).standard_normal(size // 4 + 1, np.float32).tobytes()[:size]
        for data in (self.known.get(sha256, b""), stream, bytes(size), b"x" * size, b"{}"):
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        raise KeyError(f"no file of {size} bytes with sha256 {sha256[:8]} can be made")


def lay_out(recording: dict, folder: Path, contents: Contents) -> None:
    """The input tree of a recording."""
    entries = recording["input_tree"]
    for entry in entries:
        path = folder / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry["type"] == "dir":
            path.mkdir(exist_ok=True)
        elif entry["type"] == "symlink":
            path.symlink_to(entry["target"])
        else:
            path.write_bytes(contents.get(entry["size"], entry["sha256"]))
    for entry in reversed(entries):  # a folder's mode last
        if entry["type"] != "symlink":
            (folder / entry["path"]).chmod(int(entry["mode"], 8))
    for path in FOREIGN.findall(recording["stdout_raw"]):
        os.chown(folder / path, SOMEBODY, SOMEBODY)


def machine_of(recording: dict) -> Dict[str, Any]:
    """What is not as usual on the machine that it was recorded on."""
    found = TOO_OLD.search(recording["stdout_raw"])
    if found or ABSENT.search(recording["stdout_raw"]):
        return {"aclruntime_version": found and found.group(1)}
    return {}


def replay(recording: dict, folder: Path, trace: Path) -> Result:
    """Run the recorded command on the emulator. Python's own buffering must be as it was recorded."""
    env = environment(ais_bench=recording["generation"], devices=8, trace=str(trace), **machine_of(recording))
    for name in ("PYTHONUNBUFFERED", "COLUMNS"):
        env.pop(name, None)
    set_before = itertools.takewhile(lambda word: "=" in word, shlex.split(recording["command"]))
    env.update(word.split("=", 1) for word in set_before)
    command = [sys.executable, *recording["argv"][1:]]
    options = {"cwd": folder, "env": env, "preexec_fn": lambda: os.umask(int(recording["umask"], 8))}
    if recording["stdout_kind"].startswith("pty"):
        return _on_terminal(command, options)
    done = subprocess.run(command, capture_output=True, timeout=120, **options)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def _on_terminal(command: List[str], options: Dict[str, Any]) -> Result:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, **options)
    os.close(theirs)
    parts: List[bytes] = []
    while True:
        try:
            parts.append(os.read(ours, 1 << 16))
        except OSError:  # the terminal is gone with its last user
            break
        if not parts[-1]:
            break
    os.close(ours)
    return Result(process.wait(timeout=120), b"".join(parts).decode(), "")


def model_of(recording: dict) -> Tuple[str, List[int]]:
    """Name of the recording's model, and its batch or gears; neither where it loaded none."""
    argv, stdout = recording["argv"], recording["stdout_raw"]
    name = argv[argv.index("--model") + 1]
    batch = re.search(r"_bs(\d+)\.om$", name)
    if batch or f"load model {name} success" not in stdout:
        return name, [int(batch.group(1))] if batch else []
    told, tensor = GEARS.search(stdout), re.search(r"tensor0size:(\d+)", stdout)
    if told:
        return name, list(map(int, told.group(1).split("][")))
    if "--dymBatch" in argv:
        return name, sorted({1, 2, 4, 8, int(argv[argv.index("--dymBatch") + 1])})
    return name, [1, int(tensor.group(1)) // (4 * math.prod(CROP))] if tensor else [1, 2, 4, 8]


def site(generation: str) -> str:
    return str(HERE / "site_ais_bench" / generation)
