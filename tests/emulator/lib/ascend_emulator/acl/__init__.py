"""pyACL. The module `acl` of a machine with CANN has the calls of base.py and the modules rt, mdl and util."""
from . import base, mdl, rt, util
from .base import *  # noqa: F403

EMULATED = True  # a real pyACL has no such name

__all__ = [*base.__all__, "EMULATED", "mdl", "rt", "util"]  # noqa: PLE0604
