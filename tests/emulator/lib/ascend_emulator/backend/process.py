"""What the backend opens once in a process: acl, devices, contexts; and how it closes them."""
from __future__ import annotations

import atexit
import sys
import weakref
from typing import Any, Dict, List

from .. import acl
from ..acl.state import STATE
from . import console
from .failures import Failure, expect

SATURATION = 0


class Process:
    """`old` has one context a device, `new` one a session."""

    def __init__(self, generation: str):
        self.old = generation == "old"
        self.started = self.finished = False
        self.contexts: Dict[int, List[int]] = {}
        self.sessions: Any = weakref.WeakSet()
        atexit.register(self._at_exit)

    def start(self) -> None:
        if self.started:
            return
        self.started = STATE.quiet = True
        try:
            expect(acl.init(), "acl init failed")
            console.say(console.INFO, "acl init success")
        except Failure as failure:
            console.stream(f"DeviceManager InitDevices failed. ret={failure.code}")
            self.finished = True
        if not self.old:
            acl.rt.set_device_sat_mode(SATURATION)

    def open(self, device: int) -> int:
        """A context of the device: the device's one (old), a new one (new)."""
        self.start()
        try:
            if device not in self.contexts:
                expect(acl.rt.set_device(device), f"acl open device {device} failed")
                console.say(console.INFO, f"open device {device} success")
                self.contexts[device] = []
            if self.old and self.contexts[device]:
                self.use(self.contexts[device][0])
            else:
                context, code = acl.rt.create_context(device)
                expect(code, "acl create context failed")
                self.contexts[device].append(context)
        except Failure as failure:
            console.stream(f"{'SetDevice' if self.old else 'CreateContext'} failed. ret={failure.code}")
            raise
        return self.contexts[device][-1]

    def use(self, context: int) -> None:
        expect(acl.rt.set_context(context), "acl set curcontext failed")

    def close_context(self, device: int, context: int) -> None:
        if not self.finished and context in self.contexts.get(device, []):
            expect(acl.rt.destroy_context(context), "DestroyContext failed: destroy context failed")
            self.contexts[device].remove(context)

    def finish(self) -> None:
        """Contexts, devices, acl; the new generation says less of it."""
        if not self.started or self.finished:
            return
        self.finished = True
        for device, contexts in self.contexts.items():
            for context in contexts:
                expect(acl.rt.destroy_context(context), "destroy context failed")
                if self.old:
                    console.say(console.INFO, "end to destroy context")
            expect(acl.rt.reset_device(device), "reset device failed")
            console.say(console.INFO, f"end to reset device {'is ' if self.old else ''}{device}")
        self.contexts = {}
        expect(acl.finalize(), "finalize acl failed")
        console.say(console.INFO, "end to finalize acl")

    def _at_exit(self) -> None:
        """Destructors: sessions that are left, then acl, which an interrupted Python does not get to."""
        for session in list(self.sessions):
            session.destroy()
        if not isinstance(getattr(sys, "last_value", None), KeyboardInterrupt):
            self.finish()
