"""TensorRT itself: how it is imported, and a logger that keeps its messages."""
from __future__ import annotations

import collections
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Deque, Dict

from contract.errors import UserError, printable
from contract.files import PathLike, write_file

if TYPE_CHECKING:
    import tensorrt

OLDEST = (8, 6)  # the first release with all that is called here
ABOUT_INT8 = re.compile(r"int8|calibrat|quanti[sz]|dynamic range|missing scale", re.IGNORECASE)
MOST_LINES, SHOWN = 1000, 10  # kept of one build, and shown of those about int8
KEPT_MESSAGES = 3  # of the last ones: the first reason of a failure is not always the last message


def load() -> Any:
    """The module tensorrt. Raises UserError when it cannot be imported or is too old."""
    try:
        import tensorrt
    except ImportError as error:  # also of a library that it needs
        raise UserError(f"TensorRT needs the Python package tensorrt, which cannot be imported ({error}). "
                        "Install it: pip install tensorrt") from None
    if tuple(map(int, tensorrt.__version__.split(".")[:2])) < OLDEST:
        raise UserError(f"TensorRT is {tensorrt.__version__}, expected {'.'.join(map(str, OLDEST))} or newer")
    return tensorrt


def is_emulated(tensorrt: Any) -> bool:
    """Whether this module is the emulator's of the tests."""
    return getattr(tensorrt, "EMULATED", False)


def make_runtime(tensorrt: Any, logger: Any) -> tensorrt.Runtime:
    """A TensorRT runtime. Raises UserError if the library cannot make one."""
    try:
        return tensorrt.Runtime(logger)
    except TypeError:  # how the bindings say so: pybind11 has nothing to construct from
        raise UserError(f"TensorRT {tensorrt.__version__} gives no runtime ({logger.text()}). Is the GPU's driver too "
                        "old for it (nvidia-smi)? Update the driver, or install a TensorRT for its CUDA: pip install "
                        "tensorrt-cu12") from None


def make_logger(tensorrt: Any) -> tensorrt.ILogger:
    """A logger whose `text()` is the last errors in one line, and `lines` all warnings and errors; nothing is
    printed."""

    class Messages(tensorrt.ILogger):
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)  # TensorRT needs its own, called by name
            self.errors: Deque[str] = collections.deque(maxlen=KEPT_MESSAGES)
            self.lines: Dict[str, None] = {}  # each once, in order

        def log(self, severity: Any, msg: str) -> None:
            line, level = " ".join(msg.split()), tensorrt.ILogger
            if int(severity) <= int(level.ERROR):
                self.errors.append(line)
            if int(severity) <= int(level.WARNING) and len(self.lines) < MOST_LINES:
                self.lines[f"{'error' if int(severity) <= int(level.ERROR) else 'warning'}: {line}"] = None

        def text(self) -> str:
            return "; ".join(self.errors) or "it gives no reason"

    return Messages()


def report(logger: Any, path: PathLike) -> None:
    """Write what was logged to `path`, and show the user what is about int8: it decides whether the numbers are good.
    Nothing is written where nothing was said."""
    if not logger.lines:
        return
    about_int8, where = [line for line in logger.lines if ABOUT_INT8.search(line)], os.fspath(path)
    try:
        write_file(path, "".join(f"{line}\n" for line in logger.lines).encode())
    except OSError as error:  # a folder of models that are not this user's
        where += f" cannot be written ({error.strerror})"
    for line in (f"TensorRT gave {len(logger.lines)} warnings, {len(about_int8)} of them about int8: {where}",
                 *about_int8[:SHOWN]):
        print(printable(line), file=sys.stderr)
