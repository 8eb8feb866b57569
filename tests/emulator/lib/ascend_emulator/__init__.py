"""An Ascend machine without a card: what `atc`, `npu-smi`, `acl`, `aclruntime` and `ais_bench` are here.

Models run with ONNX Runtime on the CPU. tests/emulator/__init__.py says how to switch it on and what it can do.
"""
from __future__ import annotations

import os

SWITCH = "ASCEND_EMULATOR"  # set by tests.emulator.environment, by nothing else

if not os.environ.get(SWITCH):
    raise ImportError(f"this is the Ascend emulator of the tests, not CANN: it works only where {SWITCH}=1 is set, "
                      "see tests/emulator/__init__.py")
