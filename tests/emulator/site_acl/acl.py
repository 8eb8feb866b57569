"""`import acl` on an emulated machine."""
from ascend_emulator.acl import *  # noqa: F403
