"""How the backend fails: a number, and the RuntimeError that Python sees."""
from __future__ import annotations

from typing import Tuple

from .. import acl
from . import console

GENERAL, INVALID_PARAM, BAD_ALLOC, BAD_COPY = -1, 1, 2, 26
COMM_INVALID_PARAM = 1004
TEXTS = {GENERAL: "ACL: general failure", INVALID_PARAM: "ACL: invalid parameter",
         BAD_ALLOC: "ACL: memory allocation fail", BAD_COPY: "ACL: memory copy fail",
         COMM_INVALID_PARAM: "Invalid parameter"}


class Failure(RuntimeError):
    """Its text is `[code][meaning] `, with the space. Outside of the backend it looks like a plain RuntimeError."""

    def __init__(self, code: int):
        super().__init__(f"[{code}][{TEXTS.get(code, 'Error code unknown')}] ")
        self.code = code

    def __reduce__(self) -> Tuple[type, Tuple[str]]:
        return RuntimeError, (str(self),)


Failure.__name__ = Failure.__qualname__ = "RuntimeError"  # what a traceback says
Failure.__module__ = "builtins"


def expect(code: int, *lines: str, fails_with: int = 0) -> None:
    """Of an acl call: a failure prints acl's own message and these lines."""
    if code:
        console.stream(acl.get_recent_err_msg())
        for line in lines:
            console.say(console.ERROR, line)
        raise Failure(fails_with or code)


def check_failed(call: str, code: int) -> Failure:
    """The warning of the backend's own checking macro, with its empty line."""
    console.say(console.WARN, f"Check failed:{call}, ret:{code}\n")
    return Failure(code)
