"""`import aclruntime` on an emulated machine."""
from ascend_emulator.backend.new import *  # noqa: F403
