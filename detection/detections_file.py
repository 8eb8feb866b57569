"""The detections file, how it was made, and, while it is being made, what was found so far."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from contract.errors import UserError
from contract.files import PathLike, make_folder, read_json, remove_file, sha256_of_file, write_file, write_json
from contract.manifest import settings_difference

Key = Tuple[int, int]  # image_id and bytes of a photo: a changed file is detected again


class Results:
    """OUTPUT is COCO results JSON. OUTPUT.settings.json says how it was made and what its sha256 is.

    OUTPUT.progress is there while a run is unfinished: JSON lines, the settings and then [image_id, bytes, detections]
    of each photo. A line that was cut short is dropped.
    """

    def __init__(self, output: PathLike, settings: Dict[str, Any]):
        self.output, self.settings = Path(output), settings
        self.settings_file, self.progress_file = Path(f"{output}.settings.json"), Path(f"{output}.progress")
        self.found: Dict[Key, List[dict]] = {}

    def finished(self, photographs_sha256: str, skip_unreadable: bool) -> bool:
        """Whether the output is there and is what this run would write. Raises UserError when it is something else."""
        if self.progress_file.exists() or not self.output.exists():
            return False
        if not self.settings_file.exists():
            raise UserError(f"{self.output}: exists, and was not made here (no {self.settings_file.name} beside it). "
                            "Use it unchanged, or name another --output")
        record = read_json(self.settings_file, "detection settings")
        now = {**self.settings, "photographs_sha256": photographs_sha256}
        difference = settings_difference(now, {key: record.get(key) for key in now})
        if difference is None and record.get("detections_sha256") != sha256_of_file(self.output):
            difference = "content has changed since it was written"
        if difference is None and record.get("unreadable") and not skip_unreadable:
            difference = f"unreadable photos were left out ({', '.join(record['unreadable'])})"
        if difference:
            raise UserError(f"{self.output}: made earlier, and its {difference}. Remove it, or name another --output")
        return True

    def resume(self) -> None:
        """Read what an earlier run found. Raises UserError when it had other settings."""
        content = self.progress_file.read_bytes() if self.progress_file.exists() else b""
        whole = content[:content.rfind(b"\n") + 1]
        if not whole:
            return
        try:
            begun_with, *entries = map(json.loads, whole.splitlines())
            self.found = {(image_id, size): people for image_id, size, people in entries}
            difference = settings_difference(self.settings, begun_with)
        except (ValueError, TypeError, AttributeError):
            raise UserError(f"{self.progress_file}: expected the progress of an earlier run. Remove it to begin again"
                            ) from None
        if difference:
            raise UserError(f"{self.progress_file}: of a run that was stopped, and its {difference}. Run with its "
                            "settings to continue it, or remove this file to begin again")
        write_file(self.progress_file, whole)

    def made_here(self) -> bool:
        """Whether removing the output loses nobody's own file."""
        return self.settings_file.exists() or not self.output.exists()

    def remove(self) -> None:
        for path in (self.output, self.settings_file, self.progress_file):
            remove_file(path)
        self.found.clear()

    def add(self, found: Dict[Key, List[dict]]) -> None:
        """Remember these photos, on disk too."""
        if not self.progress_file.exists():
            make_folder(self.output.parent)
            write_file(self.progress_file, (json.dumps(self.settings) + "\n").encode())
        lines = "".join(json.dumps([*key, people]) + "\n" for key, people in found.items())
        try:
            with open(os.open(self.progress_file, os.O_WRONLY | os.O_APPEND), "w") as file:
                file.write(lines)
        except OSError as error:  # a full disk raises without a file name
            raise OSError(error.errno, error.strerror, str(self.progress_file)) from None
        self.found.update(found)

    def finish(self, keys: Sequence[Key], facts: Dict[str, Any]) -> int:
        """Write the detections in the order of `keys` and their settings with `facts`; how many there are."""
        return self._write([person for key in keys for person in self.found.get(key, [])], facts)

    def join(self, parts: Sequence[Results], facts: Dict[str, Any]) -> int:
        """As `finish`, of parts that are finished, which are then removed."""
        records = [read_json(part.settings_file, "detection settings") for part in parts]
        detections = [person for part in parts for person in read_json(part.output, "detections")]
        people = self._write(detections, {**records[0], **facts, "unreadable": [path for record in records
                                                                                for path in record["unreadable"]]})
        for part in parts:
            part.remove()
        return people

    def _write(self, detections: List[dict], facts: Dict[str, Any]) -> int:
        make_folder(self.output.parent)
        write_file(self.output, json.dumps(detections).encode())
        write_json(self.settings_file, {**self.settings, **facts, "people": len(detections),
                                        "detections_sha256": sha256_of_file(self.output)})
        remove_file(self.progress_file)
        return len(detections)
