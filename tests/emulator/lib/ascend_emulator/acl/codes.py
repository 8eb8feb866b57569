"""The aclError numbers that the emulator returns."""
from __future__ import annotations

SUCCESS = 0
INVALID_PARAM = 100000  # of acl and acl.mdl
UNINITIALIZED = 100001
REPEAT_INITIALIZE = 100002
INVALID_FILE = 100003
MODEL_ID = 100011
DESERIALIZE = 100012
PARSE_MODEL = 100013
INPUT_NOT_MATCH = 100017
OUTPUT_NOT_MATCH = 100018
NOT_DYNAMIC = 100019
REPEAT_FINALIZE = 100037
RT_PARAM = 107000  # of acl.rt
RT_DEVICE = 107001
RT_CONTEXT = 107002
RT_OTHER_CONTEXT = 107003
GE_PARAM = 145000
GE_PATH = 145002
GE_MODEL_ID = 145003
DYNAMIC_BATCH = 145013
OUT_OF_MEMORY = 207001
NOT_SUPPORTED = 207000
SOC_VERSION = 507008
EXECUTION = 507011
STREAM_TIMEOUT = 507046
GE_LOAD = 545001


class AclError(Exception):
    """How a call of the emulator fails: the code it returns and the text of acl.get_recent_err_msg()."""

    def __init__(self, code: int, message: str):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
