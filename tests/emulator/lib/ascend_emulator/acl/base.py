"""acl.*: start and end, data buffers, what the machine says of itself."""
from __future__ import annotations

from typing import Optional, Tuple

from ..machine import machine
from . import codes
from .codes import AclError
from .state import NOTHING, STATE, api, report_leaks

__all__ = ["create_data_buffer", "data_type_size", "destroy_data_buffer", "finalize", "get_data_buffer_addr",
           "get_data_buffer_size", "get_data_buffer_size_v2", "get_recent_err_msg", "get_soc_name", "get_version",
           "init", "update_data_buffer"]
SIZES = {0: 4, 1: 2, 2: 1, 3: 4, 4: 1, 6: 2, 7: 2, 8: 4, 9: 8, 10: 8, 11: 8, 12: 1, 27: 2}  # of the ACL data types


class Buffer:
    """A data buffer: an address and a size that the program vouches for."""

    def __init__(self, address: int, size: int):
        self.address, self.size = address, size


@api("ret")
def init(config: str = "") -> object:
    if STATE.initialised is not None:
        raise AclError(codes.REPEAT_INITIALIZE, "EH0001: aclInit was called before in this process")
    if config:
        try:
            with open(config, encoding="utf-8"):
                pass
        except OSError:
            raise AclError(codes.INVALID_FILE, f"EH0003: the config file {config} cannot be read") from None
    STATE.initialised = True
    return NOTHING


@api("ret")
def finalize() -> object:
    if STATE.initialised is False:
        raise AclError(codes.REPEAT_FINALIZE, "EH0001: aclFinalize was called before")
    if not STATE.initialised:
        raise AclError(codes.UNINITIALIZED, "EH0001: aclFinalize before aclInit")
    report_leaks("aclFinalize")
    STATE.close()
    STATE.initialised = False
    return NOTHING


@api("bare", "")
def get_soc_name() -> str:
    return machine().soc


@api("tuple", (0, 0, 0))
def get_version() -> Tuple[int, int, int]:
    return 1, 14, 0  # of the AscendCL interface, not of CANN


@api("bare")
def get_recent_err_msg() -> Optional[str]:
    """The text of the last failure, once."""
    message, STATE.message = STATE.message, None
    return message


@api("bare", 0)
def data_type_size(data_type: int) -> int:
    return SIZES.get(data_type, 0)


@api("bare", 0)
def create_data_buffer(address: int, size: int) -> int:
    return STATE.add(Buffer(address, size))


@api("ret")
def destroy_data_buffer(buffer: int) -> object:
    STATE.drop(buffer, Buffer)
    return NOTHING


@api("ret")
def update_data_buffer(buffer: int, address: int, size: int) -> object:
    STATE.get(buffer, Buffer).__init__(address, size)
    return NOTHING


@api("bare", 0)
def get_data_buffer_addr(buffer: int) -> int:
    return STATE.get(buffer, Buffer).address


@api("bare", 0)
def get_data_buffer_size(buffer: int) -> int:
    return STATE.get(buffer, Buffer).size


@api("bare", 0)
def get_data_buffer_size_v2(buffer: int) -> int:
    return STATE.get(buffer, Buffer).size
