"""One run at a time for each output, with a lock that the kernel frees when its holder ends, however it ends.

    with hold(work_folder), reading(model):
        ...

Who writes an output has its lock alone. Those who read it share it, so that nothing is replaced while it is read.
The lock is that of flock(2) on a small file: OUTPUT/.lock in a folder, OUTPUT.lock beside a file. It holds a line about
each holder, and goes when the last one leaves. What a killed run has left of it is taken over.
"""
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shlex
import sys
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Iterator

from contract.errors import UserError
from contract.files import FILE_MODE, PathLike, remove_leftovers

NAME = ".lock"
PATIENCE = 1.0  # seconds: a run that was told to end may still be ending
BUSY = (errno.EWOULDBLOCK, errno.EACCES)
NOT_HELD = -1  # in place of a file descriptor
LONGEST_COMMAND = 200  # characters of it that are told
_HOLDER = re.compile(r"pid (\d+) on (\S+) since ([^:]+:\d+:\d+): (.*)")


class Lock:
    """The lock of an output folder that is there, or of an output file in a folder that is there."""

    def __init__(self, output: PathLike):
        self.output = Path(output)
        self.path = self.output / NAME if self.output.is_dir() else Path(f"{output}{NAME}")
        self.file = NOT_HELD

    def try_alone(self) -> bool:
        """Take it for this run alone, if nobody has it. What killed runs have left half-written is then removed."""
        if not self._lock(fcntl.LOCK_EX):
            return False
        remove_leftovers(self.output)
        return True

    def alone(self) -> None:
        """Take it for this run alone. Raises UserError that names who has it."""
        self._wait(self.try_alone)

    def share(self) -> None:
        """Take it together with others that share it, or let others join. Raises UserError that names who has it."""
        self._wait(lambda: self._lock(fcntl.LOCK_SH))

    def read(self) -> None:
        """Share it, and keep who would replace the output waiting. Where no lock can be made, as on a read-only disk,
        and where there is no output, go on without. Raises UserError that names who has it."""
        if self.output.exists():
            with contextlib.suppress(OSError):
                self.share()

    def _wait(self, attempt: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not attempt():
            if time.monotonic() > deadline:
                raise self.refusal()
            time.sleep(0.05)

    def refusal(self, why: str = "") -> UserError:
        return UserError(f"{self.output}: {self._holder()} is at work there{why}. Wait until it ends, or end it, and "
                         "run this command again")

    def _lock(self, operation: int) -> bool:
        while True:
            joining = self.file == NOT_HELD
            if joining:
                self.file = self._open()
            try:
                fcntl.flock(self.file, operation | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in BUSY:
                    self._close()
                    return False  # of a file system without locks, what comes is an error too: go on without
            if self._is_there():
                if joining:
                    self._sign(operation)
                return True
            self._close()  # the last holder has removed the file meanwhile

    def _open(self) -> int:
        flags = os.O_APPEND | os.O_NOFOLLOW
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | flags, FILE_MODE)
        except PermissionError:
            if not self.path.exists():
                raise
            return os.open(self.path, os.O_RDONLY | flags)  # another user's, which a reader may share

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.file), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _sign(self, operation: int) -> None:
        """Say who holds it; alone, in place of what the dead have left."""
        command = " ".join(map(shlex.quote, sys.argv))[:LONGEST_COMMAND]
        line = f"pid {os.getpid()} on {os.uname().nodename} since {time.strftime('%Y-%m-%d %H:%M:%S')}: {command}\n"
        with contextlib.suppress(OSError):  # a full disk must not keep anybody from a lock
            if operation == fcntl.LOCK_EX:
                os.ftruncate(self.file, 0)
            os.write(self.file, line.encode(errors="backslashreplace"))

    def _holder(self) -> str:
        """One that is still alive, as far as this machine can tell; this process only where it is the only one."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        alive = [match.groups() for match in filter(None, map(_HOLDER.match, reversed(lines)))
                 if match.group(2) != os.uname().nodename or os.path.exists(f"/proc/{match.group(1)}")]
        for pid, host, started, command in sorted(alive, key=lambda one: one[0] == str(os.getpid())):
            return f"pid {pid} on {host} ({command}), started {started},"
        return "another process"

    def _close(self) -> None:
        os.close(self.file)
        self.file = NOT_HELD

    def release(self) -> None:
        """The last holder removes the file."""
        if self.file == NOT_HELD:
            return
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_there():
                os.unlink(self.path)
        except OSError:  # others still share it
            pass
        self._close()


@contextlib.contextmanager
def hold(*outputs: PathLike) -> Iterator[None]:
    """Be the only run that works on `outputs`: folders that are there, and files in such folders.

    Raises UserError in one line with the other's pid and start where another run is at work there.
    """
    with contextlib.ExitStack() as locks:
        for lock in map(Lock, outputs):
            locks.callback(lock.release)
            lock.alone()
        yield


@contextlib.contextmanager
def reading(*inputs: PathLike) -> Iterator[None]:
    """No other run replaces `inputs`, files and folders, meanwhile. Raises UserError where one does so now."""
    with contextlib.ExitStack() as locks:
        for lock in map(Lock, inputs):
            locks.callback(lock.release)
            lock.read()
        yield


def read_as_long_as(reader: Any, folder: PathLike) -> Lock:
    """As `reading`, until the object `reader` goes or the lock is released."""
    lock = Lock(folder)
    lock.read()
    weakref.finalize(reader, lock.release)
    return lock
