"""TensorRT itself: how it is imported, and a logger that keeps what it says."""
from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any, Deque

from contract.errors import UserError

if TYPE_CHECKING:
    import tensorrt

OLDEST = (8, 6)  # the first release with all that is called here
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


def make_logger(tensorrt: Any) -> tensorrt.ILogger:
    """A logger whose `text()` is the last errors in one line; nothing is printed."""

    class Messages(tensorrt.ILogger):
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)  # TensorRT needs its own, called by name
            self.errors: Deque[str] = collections.deque(maxlen=KEPT_MESSAGES)

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= int(tensorrt.ILogger.ERROR):
                self.errors.append(" ".join(msg.split()))

        def text(self) -> str:
            return "; ".join(self.errors) or "it gives no reason"

    return Messages()
