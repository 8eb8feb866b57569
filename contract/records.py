"""Records: what made a file, kept beside it, so that it is used again where it belongs and nowhere else.

settings.json of dumps, NAME.om.json, NAME.engine.json and OUTPUT.settings.json of detections are records. Each says
`emulated` where the devices of tests/emulator or tests/tensorrt_emulator made the file: their numbers are a CPU's.
"""
from __future__ import annotations

import os
from typing import Any, Dict, Optional

from contract.errors import UserError
from contract.files import PathLike, read_json

EMULATED = "emulated"


def read_record(path: PathLike) -> Optional[Dict[str, Any]]:
    """A record; None where it is not there. Raises UserError when it is not a JSON object."""
    if not os.path.exists(path):
        return None
    record = read_json(path, "record")
    if not isinstance(record, dict):
        raise UserError(f"{path}: expected a record, a JSON object, but it holds a {type(record).__name__}. Remove it, "
                        "and make again what it describes")
    return record


def is_emulated(record: Optional[Dict[str, Any]]) -> bool:
    """Whether a record, if there is one, says that an emulator made its file."""
    return bool(record and record.get(EMULATED))


def protect(path: PathLike, earlier: Optional[Dict[str, Any]], now: Dict[str, Any]) -> None:
    """Refuse to let an emulated run replace what a real device made, of which `earlier` is the record."""
    if is_emulated(now) and earlier and earlier.get(EMULATED) is False:
        raise UserError(f"{path}: a real device made it, and this is an emulated run, which would replace it. Give "
                        "this run another output")
