"""Run a command of run.sh, show what it prints, and keep that in log.txt: python3 -m kit.step COMMAND ...

It needs Python 3.7 alone, and is started often: so it is apart from kit.server.
"""
from __future__ import annotations

from contract.script import exit_code

import signal
import sys
from typing import List

from contract.workers import end_with_parent, run_together

LOG = "log.txt"


def step(command: List[str]) -> int:
    """In the folder of the kit. The command ends when run.sh does."""
    end_with_parent(signal.SIGTERM)
    with open(LOG, "a", encoding="utf-8", errors="replace") as log:
        def show(name: str, text: str) -> None:
            print(text, end="", flush=True)
            log.write(text)
            log.flush()

        show("", f"\n== {' '.join(command)}\n")
        code = run_together({"": command}, show)[""]
    return code if code >= 0 else 128 - code


def main() -> int:
    return step(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(exit_code(main))
