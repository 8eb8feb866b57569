"""`import aclruntime` on an emulated machine."""
from ascend_emulator.backend.old import *  # noqa: F403
