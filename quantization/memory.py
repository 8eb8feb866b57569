"""What slow steps have found, beside the output while a run is unfinished: one that was stopped continues."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

from contract.files import PathLike, remove_file, write_file


class Memory:
    """OUTPUT.progress holds JSON lines: the settings, and then [name, value] of each step; the last of a name counts.

    What was found with other settings is forgotten, and so is a line that was cut short. Without an output nothing is
    remembered.
    """

    def __init__(self, output: Optional[PathLike] = None, settings: Optional[Mapping[str, Any]] = None):
        self.path = None if output is None else Path(f"{output}.progress")
        self.settings: Any = json.loads(json.dumps(settings))
        self.found = _read(self.path, self.settings) if self.path is not None and self.path.exists() else {}
        self.begun = False

    def once(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` gives of the arguments, in JSON's types; or what it gave in a run that was stopped."""
        if name in self.found:
            return self.found[name]
        value = work(*arguments)
        self.keep(name, value)
        return value

    def keep(self, name: str, value: Any) -> None:
        """For a run that continues this one."""
        if self.path is None:
            return
        if not self.begun:
            lines = [self.settings, *map(list, self.found.items())]
            write_file(self.path, "".join(json.dumps(line) + "\n" for line in lines).encode())
            self.begun = True
        try:
            with open(os.open(self.path, os.O_WRONLY | os.O_APPEND), "w") as file:
                file.write(json.dumps([name, value]) + "\n")
        except OSError as error:  # a full disk raises without a file name
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def forget(self) -> None:
        """The run is finished."""
        if self.path is not None:
            remove_file(self.path)


def _read(path: Path, settings: Any) -> Dict[str, Any]:
    content = path.read_bytes()
    try:
        begun_with, *entries = map(json.loads, content[:content.rfind(b"\n") + 1].splitlines())
        return dict(entries) if begun_with == settings else {}
    except (ValueError, TypeError):
        return {}

