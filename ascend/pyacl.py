"""Calls into pyACL that check their return code.

pyACL has no constants and no exceptions: a function returns its code, or its values and the code. Here a code other
than 0 is an error that carries its meaning and what ACL itself says.
"""
from __future__ import annotations

import atexit
import operator
import threading
from collections import Counter
from typing import Any

from ascend.cann import set_env_advice
from ascend.codes import explain_acl, explain_output
from contract.errors import UserError

SUCCESS, ALREADY_INITIALISED = 0, 100002
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2  # kinds of rt.memcpy
HUGE_PAGES_FIRST = 0  # policy of rt.malloc
NUMPY_TYPES = {0: "float32", 1: "float16", 2: "int8", 3: "int32", 4: "uint8"}  # of ACL's data types

_state = threading.Lock()  # of this process:
_initialised = False
_users: Counter = Counter()  # of each device


def module() -> Any:
    """`acl` itself. Raises UserError when it cannot be imported."""
    try:
        import acl
    except ImportError as error:
        raise UserError(f"pyACL cannot be imported ({error}): {set_env_advice()}") from None
    return acl


def emulated() -> bool:
    """Whether this pyACL is the emulator's of the tests."""
    return getattr(module(), "EMULATED", False)


def initialise() -> None:
    """Once a process; finalised when it ends, because ACL cannot be initialised again after that."""
    global _initialised
    with _state:
        if _initialised:
            return
        code = module().init()
        if code != ALREADY_INITIALISED:  # by another library, which ends it too
            _check("init", code)
            atexit.register(module().finalize)
        _initialised = True


def open_device(device: int) -> None:
    """Make `device` one that this process uses. Each call needs a `close_device`."""
    initialise()
    with _state:
        if not _users[device]:
            call("rt.set_device", device)
        _users[device] += 1


def close_device(device: int) -> None:
    """The last one resets the device, which ends everything that the process has on it.

    Newer releases count set_device and reset_device, and older ones do not: once each is right for both.
    """
    with _state:
        _users[device] -= 1
        if not _users[device]:
            module().rt.reset_device(device)


def call(name: str, *arguments: Any) -> Any:
    """What pyACL's function `name` ("rt.malloc") returns, without the code. Raises UserError when that is not 0."""
    returned = operator.attrgetter(name)(module())(*arguments)
    values = returned if isinstance(returned, tuple) else (returned,)
    _check(name, values[-1])
    return values[0] if len(values) == 2 else values[:-1]


def _check(name: str, code: int) -> None:
    if code != SUCCESS:
        raise UserError(f"acl.{name} failed with {explain_acl(code)}{recent_message()}")


def recent_message() -> str:
    """What ACL says about its last failure and what the codes in it mean, in one line; empty when it says nothing."""
    message = getattr(module(), "get_recent_err_msg", lambda: None)()  # absent from old releases
    return f" (ACL: {'. '.join([' '.join(message.split()), *explain_output(message)])})" if message else ""
