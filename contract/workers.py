"""Programs that run side by side, such as one per device, and end with the program that started them."""
from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
from threading import Thread
from typing import Any, Callable, Dict, Iterator, List, Optional

PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when its parent has gone
READ_AT_ONCE = 1 << 16
STOPS = (signal.SIGINT, signal.SIGTERM)


def end_with_parent(number: int = signal.SIGKILL, libc: Any = None) -> None:
    """Let the kernel send this process a signal when its parent dies, whichever way."""
    (libc or ctypes.CDLL(None)).prctl(PR_SET_PDEATHSIG, number)


def start(command: List[str], **options: Any) -> subprocess.Popen:
    """A program in a group of its own, which the kernel kills when this process dies, whichever way. `end` it."""
    libc = ctypes.CDLL(None)  # loaded here: between fork and exec nothing may be

    def before_it_runs() -> None:
        end_with_parent(libc=libc)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    return subprocess.Popen(command, start_new_session=True, **options, preexec_fn=before_it_runs)


def end(process: subprocess.Popen) -> None:
    """Kill a program that `start` has started, and all programs that it has started itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_together(commands: Dict[str, List[str]], listen: Optional[Callable[[str, str], None]] = None,
                 **options: Any) -> Dict[str, int]:
    """Run all `commands` (name -> arguments) at once, wait for all, return their exit codes.

    With `listen`, it is given each one's name and what it prints, as it comes; without, they print where this one
    does. When this process is interrupted or told to end, they and what they started are killed.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if listen else {}
    processes: Dict[str, subprocess.Popen] = {}
    readers: List[Thread] = []
    try:
        with _stops_wait():
            for name, command in commands.items():
                processes[name] = start(command, **pipes, **options)
        for name, process in processes.items() if listen else ():
            readers.append(Thread(target=_read, args=(process, name, listen), daemon=True))
            readers[-1].start()
        for process in processes.values():
            process.wait()
    finally:
        for process in processes.values():
            end(process)
        for reader in readers:
            reader.join()
    return {name: process.returncode for name, process in processes.items()}


@contextlib.contextmanager
def _stops_wait() -> Iterator[None]:
    """Signals that end this process come after the block: none may come between the start of a program and its note."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read(process: subprocess.Popen, name: str, listen: Callable[[str, str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    assert process.stdout is not None  # it is a pipe
    with process.stdout as pipe:
        for block in iter(lambda: os.read(pipe.fileno(), READ_AT_ONCE), b""):
            listen(name, decoder.decode(block))


def describe_exit(code: int) -> str:
    return f"ended with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def as_typed(command: List[str]) -> str:
    """A command as a user types it in a shell: shlex.join, which Python 3.7 has not."""
    return " ".join(map(shlex.quote, command))
