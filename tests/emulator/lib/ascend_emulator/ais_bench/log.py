"""Log lines of the Python half: `[LEVEL] text` on stdout, each flushed."""
from __future__ import annotations

import logging
import sys

GREEN, PLAIN = "\033[1;32m", "\033[0m"
SOLUTION = 35  # a level of its own, between warning and error

logger = logging.getLogger("ais_bench")
detail = logging.getLogger("ais_bench_files")  # the new generation does not show its debug lines


def start() -> None:
    logging.addLevelName(SOLUTION, f"{GREEN}SOLUTION{PLAIN}")
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="[%(levelname)s] %(message)s")


def fail(text: str, reason: str = "") -> RuntimeError:
    """An error line, and the exception (often without a text) for the caller to raise."""
    logger.error(text)
    return RuntimeError(reason) if reason else RuntimeError()
