"""How every script and module command begins and ends. Each imports this before anything else:

    from contract.script import exit_code
    ...
    if __name__ == "__main__":
        sys.exit(exit_code(main))

Then a missing package is reported in one line, and Ctrl-C is silent, even while the other modules are still being
imported. It needs only Python's own library.
"""
from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, TextIO, Tuple, cast

from contract.errors import BAD_INPUT, CLOSED_PIPE, DEFECT, DONE, INTERRUPTED, UserError, printable

ROOT = Path(os.path.abspath(__file__)).parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python3"  # scripts/setup.sh makes it
ENDING = (signal.SIGTERM, signal.SIGHUP)
OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
NO_MEMORY = ("can't allocate memory", "Insufficient memory", "bad allocation")  # in errors of libraries in C++


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came. Its `args` are the signal's number."""


def exit_code(main: Callable[[], Optional[int]]) -> int:
    """Run `main`. What the user can fix becomes one line on stderr, and each way to end its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    came: List[KeyboardInterrupt] = []
    with contextlib.redirect_stdout(cast(TextIO, Printable(sys.stdout))):
        try:
            with _ended_by_signals(came):
                code = main() or DONE
                sys.stdout.flush()
        except BaseException as error:  # after a signal, what libraries have made of its exception
            code = report(came[0] if came else error)
    return code


class Printable:
    """A text stream whose lines are `printable`: they hold names and settings of files that others have made."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write("\n".join(map(printable, text.split("\n"))))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _ended_by_signals(came: List[KeyboardInterrupt]) -> Iterator[None]:
    """SIGTERM ends what runs here as SIGINT does: with an exception, so that temporary folders go and children end.
    The exception is added to `came`."""
    def end(number: int, frame: Any) -> None:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)  # a second one must not stop the first one's cleaning up
        came.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))
        raise came[-1]

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, *ENDING)
              if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _leave)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report(error: BaseException) -> int:
    """Say on stderr, in one line, why a script ends. Returns the exit code."""
    code, line = _explain(error)
    for stream, text in ((sys.stdout, ""), (sys.stderr, line and f"{line}\n")):
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):  # nobody reads, or the disk is full: Python must not complain when it ends
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _explain(error: BaseException) -> Tuple[int, str]:
    """The exit code and the line of an exception; the line is empty for what ends silently."""
    if isinstance(error, SystemExit):
        return _code_of(error)
    if isinstance(error, UserError):
        return BAD_INPUT, f"error: {printable(str(error))}"
    if isinstance(error, ImportError) and not _is_ours(error.name):
        return BAD_INPUT, f"error: {printable(_explain_import(error))}"
    if isinstance(error, BrokenPipeError):
        return CLOSED_PIPE, ""
    if isinstance(error, OSError) and (error.filename is not None or error.errno in OF_THE_MACHINE):
        return BAD_INPUT, f"error: {_place_of(error)}: {error.strerror}. Fix this and run the same command again: " \
            "finished files are kept"
    if isinstance(error, MemoryError) or isinstance(error, Exception) and any(one in str(error) for one in NO_MEMORY):
        return BAD_INPUT, f"error: not enough memory ({printable(str(error)) or 'Python gives no details'}). Use " \
            "smaller batches, fewer --workers, or a machine with more memory"
    if isinstance(error, UnicodeEncodeError):
        return BAD_INPUT, f"error: {printable(ascii(error.object))}: expected text that can be written as " \
            f"{error.encoding}, but a name in it cannot. Rename that file"
    if isinstance(error, Terminated):
        return 128 + error.args[0], "terminated. Run the same command again to continue."
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted. Run the same command again to continue."
    return DEFECT, _keep_traceback(error)


def _code_of(stop: SystemExit) -> Tuple[int, str]:
    if isinstance(stop.code, str):
        return BAD_INPUT, stop.code
    try:
        sys.stdout.flush()  # of argparse's --help
    except OSError as error:
        return _explain(error)
    return stop.code or DONE, ""


def _is_ours(module: Optional[str]) -> bool:
    """Whether a module that could not be imported is of this project: then that is a defect."""
    return module is not None and any((ROOT / module.split(".")[0]).with_suffix(suffix).exists()
                                      for suffix in ("", ".py"))


def _explain_import(error: ImportError) -> str:
    missing = isinstance(error, ModuleNotFoundError)
    what = f"this needs the Python package {error.name}, which {sys.executable} does not have" if missing else \
        f"{sys.executable} cannot import {error.name or 'a package'} ({error})"
    optional = _requirements_with(error.name) if missing else None
    if optional:
        return f"{what}. {sys.executable} -m pip install -r {optional}"
    python = os.path.relpath(PYTHON)
    if not PYTHON.exists():
        return f"{what}. bash scripts/setup.sh makes {python}, which has what every script needs"
    if Path(sys.prefix).resolve() == PYTHON.parent.parent.resolve():
        return f"{what}. bash scripts/setup.sh installs what every script needs"
    return f"{what}. {python} has what every script needs: source {os.path.dirname(python)}/activate, and run the " \
        "same command again"


def _requirements_with(module: Optional[str]) -> Optional[str]:
    """The file of optional packages that names this one; None for what the first command needs."""
    for path in sorted(ROOT.glob("requirements-*.txt")):
        names = [line.split(">=")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        if module in names and path.name != "requirements-no-torch.txt":
            return path.name
    return None


def _place_of(error: OSError) -> str:
    """The file that an error is about; without one it is mostly stdout, on a full disk."""
    if error.filename is None:
        return "this machine, or where its output goes"
    return printable(os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename))


def _keep_traceback(error: BaseException) -> str:
    """Write it into a file of its own; the line that names the file."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        number, path = tempfile.mkstemp(prefix=f"{Path(sys.argv[0]).stem}_", suffix="_traceback.txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{sys.version}\n{sys.argv}\n{text}")
    except OSError as reason:
        return f"{text}error: this is a defect of the program; no file could take its traceback ({reason})"
    what = f"{type(error).__name__} ({printable(str(error))[:200]})"
    return f"error: {what} is a defect of this program. Report it; its traceback is in {path}"


def _leave(number: int, frame: Any) -> None:
    os._exit(INTERRUPTED)  # nothing is there yet to be cleaned up, and packages turn exceptions into errors of theirs


def _hook(kind: type, error: BaseException, traceback: Any) -> None:
    raise SystemExit(report(error))


def _is_script(main: Any) -> bool:
    """Whether Python runs a script of this project, and not a test or a program that uses it."""
    path = Path(os.path.abspath(getattr(main, "__file__", None) or "."))
    return path.suffix == ".py" and ROOT in path.parents and "site-packages" not in path.parts


if _is_script(sys.modules.get("__main__")):
    sys.excepthook = _hook
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is not ignored
        signal.signal(signal.SIGINT, _leave)
