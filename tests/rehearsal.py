"""Running a command on an emulated machine, which the emulators of Ascend and of NVIDIA share."""
from __future__ import annotations

import subprocess
import sys
from typing import Callable, Dict, List


def rehearse(banner: str, words: List[str], environment: Callable[[], Dict[str, str]]) -> int:
    """Run the command behind `--` with the `banner` before and after it, and return its exit code."""
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        print("error: no command after --", file=sys.stderr)
        return 2
    print(banner, file=sys.stderr, flush=True)
    code = subprocess.run(command, env=environment()).returncode
    print(banner, file=sys.stderr, flush=True)
    return code
