"""Work in threads, in order and a few items deep."""
from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future
from typing import Any, Callable, Deque, Iterable, Iterator

AHEAD = 3  # items of a stage that run or wait


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
