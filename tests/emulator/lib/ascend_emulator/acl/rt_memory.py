"""acl.rt: memory and copies."""
from __future__ import annotations

import ctypes
from typing import Optional, Tuple

from ..machine import machine
from . import codes
from .codes import AclError
from .state import DEVICE, HOST, NOTHING, STATE, Memory, api
from .streams import Task, stream_of, submit

H2H, H2D, D2H, D2D, DEFAULT = range(5)
SIDES = {H2H: (HOST, HOST), H2D: (DEVICE, HOST), D2H: (HOST, DEVICE), D2D: (DEVICE, DEVICE)}  # kind -> of dst, of src
MB = 1 << 20


def _allocate(kind: str, size: int, device: int) -> int:
    if size <= 0:
        raise AclError(codes.INVALID_PARAM, f"EH0001: cannot allocate {size} bytes")
    used = sum(memory.size for memory in STATE.memory.values() if (memory.kind, memory.device) == (kind, device))
    if kind == DEVICE and used + size > machine().memory_mb * MB:
        raise AclError(codes.OUT_OF_MEMORY, f"EL0004: device {device} has no {size} bytes left")
    memory = Memory(kind, size, device)
    STATE.memory[memory.address] = memory
    return memory.address


@api("value", 0)
def malloc(size: int, policy: int) -> int:
    if not 0 <= policy <= 7:
        raise AclError(codes.INVALID_PARAM, f"EH0001: malloc policy {policy} is not one")
    return _allocate(DEVICE, size, STATE.current().device)


@api("value", 0)
def malloc_host(size: int) -> int:
    STATE.current()
    return _allocate(HOST, size, -1)


def _release(kind: str, address: int) -> object:
    STATE.current()
    if address not in STATE.memory or STATE.memory[address].kind != kind:
        raise AclError(codes.RT_PARAM, f"EE1001: {address:#x} is not the start of live {kind}")
    del STATE.memory[address]
    return NOTHING


@api("ret")
def free(address: int) -> object:
    return _release(DEVICE, address)


@api("ret")
def free_host(address: int) -> object:
    return _release(HOST, address)


@api("tuple", (0, 0))
def get_mem_info(attribute: int) -> Tuple[int, int]:
    device = STATE.current().device
    used = sum(memory.size for memory in STATE.memory.values() if memory.device == device)
    return machine().memory_mb * MB - used, machine().memory_mb * MB


def _check_range(address: int, size: int, side: Optional[str], pinned: bool) -> None:
    """An address must lie, with `size` bytes after it, in memory of the side that the copy names.

    Host memory may be the program's own (numpy, bytes) in a synchronous copy; an asynchronous one needs malloc_host.
    """
    if address == 0:
        raise AclError(codes.INVALID_PARAM, "EH0001: null pointer")
    memory = STATE.find(address)
    if memory is None:
        if side == DEVICE:
            raise AclError(codes.RT_PARAM, f"EE1001: {address:#x} is not device memory")
        if pinned:
            raise AclError(codes.RT_PARAM, f"EE1001: {address:#x} is not memory of malloc_host, which an asynchronous "
                                           "copy needs")
        return
    if side is not None and memory.kind != side:
        raise AclError(codes.RT_PARAM, f"EE1001: {address:#x} is {memory.kind}, the copy kind says {side}")
    if memory.kind == DEVICE and memory.device != STATE.current().device:
        raise AclError(codes.RT_PARAM, f"EE1001: {address:#x} is memory of device {memory.device}, the context is "
                                       f"of device {STATE.current().device}")
    if address + size > memory.address + memory.size:
        raise AclError(codes.RT_PARAM, f"EE1001: {size} bytes at {address:#x} pass the end of an allocation of "
                                       f"{memory.size} bytes")


def _check_copy(dst: int, dst_max: int, src: int, count: int, kind: int, pinned: bool) -> None:
    if kind not in (*SIDES, DEFAULT):
        raise AclError(codes.INVALID_PARAM, f"EH0001: memcpy kind {kind} is not one")
    if not 0 < count <= dst_max:
        raise AclError(codes.RT_PARAM, f"EE1001: {count} bytes do not fit the destination's {dst_max}")
    dst_side, src_side = SIDES.get(kind, (None, None))
    _check_range(dst, dst_max, dst_side, pinned)
    _check_range(src, count, src_side, pinned)


@api("ret")
def memcpy(dst: int, dst_max: int, src: int, count: int, kind: int) -> object:
    """dst_max comes before src, count after it. Other streams' work is not waited for."""
    STATE.current()
    _check_copy(dst, dst_max, src, count, kind, pinned=False)
    ctypes.memmove(dst, src, count)
    return NOTHING


@api("ret")
def memcpy_async(dst: int, dst_max: int, src: int, count: int, kind: int, stream: int) -> object:
    on = stream_of(stream)
    _check_copy(dst, dst_max, src, count, kind, pinned=True)

    def copy() -> None:
        for address in (dst, src):
            if STATE.find(address) is None:
                raise AclError(codes.EXECUTION, f"EE9999: {address:#x} was freed before the copy was done")
        ctypes.memmove(dst, src, count)

    submit(Task(on, copy))
    return NOTHING


@api("ret")
def memset(address: int, dst_max: int, value: int, count: int) -> object:
    STATE.current()
    if not 0 < count <= dst_max:
        raise AclError(codes.RT_PARAM, f"EE1001: {count} bytes do not fit the destination's {dst_max}")
    _check_range(address, dst_max, None, pinned=False)
    ctypes.memset(address, value, count)
    return NOTHING
