"""Programs that run side by side, such as one a device, and never outlive the one that started them."""
from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import signal
import subprocess
from threading import Thread
from typing import Any, Callable, Dict, Iterator, List, Optional

PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when its parent has gone
READ_AT_ONCE = 1 << 16


def run_together(commands: Dict[str, List[str]], listen: Optional[Callable[[str, str], None]] = None,
                 **options: Any) -> Dict[str, int]:
    """Run all `commands` (name -> arguments) at once, wait for all, return their exit codes.

    With `listen`, it is given each one's name and what it prints, as it comes; without, they print where this one
    does. When this process is interrupted or told to end, they and what they started are killed.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if listen else {}
    libc = ctypes.CDLL(None)
    processes: Dict[str, subprocess.Popen] = {}
    readers: List[Thread] = []
    with terminate_as_interrupt():
        try:
            for name, command in commands.items():
                processes[name] = subprocess.Popen(
                    command, start_new_session=True, **pipes, **options,
                    preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
            for name, process in processes.items() if listen else ():
                readers.append(Thread(target=_read, args=(process, name, listen), daemon=True))
                readers[-1].start()
            for process in processes.values():
                process.wait()
        finally:
            for process in processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # also what a finished one left behind
                process.wait()
            for reader in readers:
                reader.join()
    return {name: process.returncode for name, process in processes.items()}


def _read(process: subprocess.Popen, name: str, listen: Callable[[str, str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with process.stdout as pipe:
        for block in iter(lambda: os.read(pipe.fileno(), READ_AT_ONCE), b""):
            listen(name, decoder.decode(block))


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt here, so that what must be done at the end is done."""
    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def describe_exit(code: int) -> str:
    return f"ended with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
