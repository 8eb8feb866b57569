"""The file that stands for a plan: a line of JSON, then the ONNX it was built of."""
from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, Tuple

MAGIC = b"EMULATED TENSORRT PLAN "


class BadPlan(Exception):
    pass


def write(facts: Dict[str, Any], onnx: bytes) -> bytes:
    header = json.dumps({**facts, "sha256": hashlib.sha256(onnx).hexdigest()})
    return MAGIC + header.encode() + b"\n" + onnx


def read(plan: bytes) -> Tuple[Dict[str, Any], bytes]:
    header, _, onnx = plan.partition(b"\n")
    try:
        if not header.startswith(MAGIC):
            raise ValueError
        facts = json.loads(header[len(MAGIC):])
    except ValueError:
        raise BadPlan("Serialization assertion magicTagRead == kPLAN_MAGIC_TAG failed. Magic tag does not "
                      "match") from None
    if hashlib.sha256(onnx).hexdigest() != facts["sha256"]:
        raise BadPlan("Serialization assertion sizeRead == static_cast<uint64_t>(mEngineHeader.size) failed. "
                      "Size specified in header does not match archive size")
    return facts, onnx
