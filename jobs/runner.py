"""Running stages one after another, each a process group that ends when this process ends, in whichever way.

SIGINT and SIGTERM are passed on to the stage; when this process is killed outright, jobs/watcher.py ends the stage.
"""
from __future__ import annotations

from contract.script import Terminated

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional

from contract.errors import UserError
from contract.locks import Lock
from contract.stage import QUIET, Stage
from contract.workers import describe_exit
from jobs.watcher import GRACE, signal_group

ROOT = Path(__file__).resolve().parent.parent
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StageFailed(Exception):
    """A stage failed and has already reported why. `code` is its exit code."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


class Runner:
    """Runs stages in the project's root with this Python. Use it as a context manager.

    The stages hold `lock` too, so that a rerun meets one that is still ending.
    """

    def __init__(self, lock: Optional[Lock] = None, quiet: bool = False):
        self.lock, self.quiet = lock, quiet
        self.group: Optional[int] = None  # of the stage that runs
        self.signal: Optional[int] = None  # the first that came

    def __enter__(self) -> Runner:
        end, self.pipe = os.pipe()
        self.watcher = subprocess.Popen([sys.executable, "-m", "jobs.watcher"], cwd=ROOT, stdin=end,
                                        start_new_session=True)
        os.close(end)
        # What is ignored from the start, as after nohup or in the background, stays so, here and in the stages.
        self.handlers = {number: signal.signal(number, self._forward) for number in (*FORWARDED, signal.SIGALRM)
                         if signal.getsignal(number) != signal.SIG_IGN}
        return self

    def __exit__(self, *_: Any) -> None:
        signal.alarm(0)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        os.close(self.pipe)
        self.watcher.wait()

    def run(self, stages: Iterable[Stage], shown: bool = False) -> List[int]:
        """Their exit codes. `shown` stages print their results even where the runner is quiet.

        Raises StageFailed at the first one that fails, and UserError where that one could not say why.
        """
        return [self._run(stage, self.quiet and not shown) for stage in stages]

    def _run(self, stage: Stage, quiet: bool) -> int:
        if self.signal:
            raise KeyboardInterrupt if self.signal == signal.SIGINT else Terminated(self.signal)
        with self._start(stage, quiet) as process:
            code = process.wait()
        if self.signal:
            raise StageFailed(128 + self.signal)
        if code < 0:
            raise UserError(f"{stage.name} {describe_exit(code)}. Is memory short? Run the same command again: "
                            "finished files are kept")
        if code not in stage.codes:
            raise StageFailed(code)
        return code

    @contextlib.contextmanager
    def _start(self, stage: Stage, quiet: bool) -> Iterator[subprocess.Popen]:
        """A process group of its own, of which nothing is left at the end."""
        process = subprocess.Popen(
            [sys.executable, *stage.command], cwd=ROOT, env={**os.environ, **({QUIET: "1"} if self.quiet else {})},
            stdout=subprocess.DEVNULL if quiet else None, start_new_session=True,
            pass_fds=[self.lock.file] if self.lock and self.lock.file else [], preexec_fn=self._tell_watcher)
        self.group = process.pid
        if self.signal:  # it came while the stage was being started
            signal_group(self.group, self.signal)
        yield process
        signal_group(self.group, signal.SIGKILL)  # what the stage has left behind
        self.group = None
        self._tell_watcher(0)

    def _tell_watcher(self, group: Optional[int] = None) -> None:
        """Without `group`, in the stage's process before it is the stage: there is no moment when nobody knows it."""
        os.write(self.pipe, f"{os.getpid() if group is None else group}\n".encode())

    def _forward(self, number: int, frame: Any) -> None:
        """Ask the stage to end; a second signal, or none for GRACE seconds, kills it."""
        if self.signal:
            number = signal.SIGKILL
        else:
            self.signal = number
            number = signal.SIGTERM if number == signal.SIGHUP else number  # which some programs take for "read again"
            signal.alarm(GRACE)
        if self.group:
            signal_group(self.group, number)


@contextlib.contextmanager
def at_work(folder: Path, quiet: bool = False) -> Iterator[Runner]:
    """A runner that is the only one to work in the existing `folder`. Raises UserError if another run works there."""
    lock = Lock(folder)
    lock.alone()
    try:
        with Runner(lock, quiet) as runner:
            yield runner
    finally:
        lock.release()
