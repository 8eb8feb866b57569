"""Memory that is freed, kept for the next array of the same size."""
from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_KEPT = 1 << 25  # bytes of an array; the most that glibc takes
KEPT = 1 << 28  # bytes


def keep_freed_memory() -> None:
    """For a program that makes arrays of the same sizes again and again.

    glibc gives what is freed back to the kernel, from 128 KiB on, and each page of it is cleared when it comes again:
    that takes several times as long as turning back and averaging heatmaps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)
