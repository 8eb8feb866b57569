"""Work in threads, in order and with a few items in flight; and the number of threads and CPUs available for it."""
from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Callable, Deque, Iterable, Iterator, Optional

AHEAD = 3  # items of a stage that run or wait
_OF_THREAD = threading.local()
CONTROL_GROUP = "/sys/fs/cgroup"  # of the container, as it sees its own


def in_order(pool: Executor, work: Callable[[Any], Any], items: Iterable[Any], ahead: int = AHEAD) -> Iterator[Any]:
    """`work` of each item, in the order of the items, `ahead` of them running or waiting.

    Stages can be chained: each takes the iterator of the one before, so all of them run at once, and what lies between
    them is bounded.
    """
    waiting: Deque[Future] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def share_cores(count: Optional[int]) -> None:
    """Backends that this thread opens from now on compute a batch with at most `count` threads of the CPU, where their
    library lets them; None is no limit."""
    _OF_THREAD.threads = count


def threads_wanted() -> int:
    """How many threads compute a batch: what `share_cores` was told in this thread or, where it is less,
    OMP_NUM_THREADS, which Ray sets to the CPUs of a worker and not every library reads; 0 without both."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    told = (getattr(_OF_THREAD, "threads", None), int(first) if first.isdigit() else 0)
    return min(filter(None, told), default=0)


def cpu_limit(group: str = CONTROL_GROUP) -> Optional[int]:
    """How many CPUs the quota of a container amounts to, rounded up; None without a quota. Libraries that start a
    thread for each CPU do not see it, because such a container sees every CPU of the machine."""
    try:
        if (Path(group) / "cpu.max").exists():  # version 2 of control groups
            quota, period = (Path(group) / "cpu.max").read_text().split()
        else:
            quota, period = ((Path(group) / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return max(1, -(-int(quota) // int(period))) if int(quota) > 0 else None  # -1: none, in version 1
    except (OSError, ValueError):  # "max": none, in version 2
        return None
