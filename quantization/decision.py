"""What int8 of one network is: the range of each tensor and the layers that stay float. Every device's form of int8 is
written from it."""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Tuple

from contract.errors import UserError
from contract.files import PathLike, write_json
from contract.records import read_record

FORMAT = 1  # of the record


@dataclasses.dataclass
class Decision:
    """Names are those of `quantization.graph.prepare(model)`.

    ranges: tensor -> the lowest and highest value that int8 keeps, low <= 0 <= high and low < high; kept: node that
    stays float -> why; method: a name in contract.ranges.METHODS; per_channel: each output channel of weights has a
    scale of its own; sha256: of the float "model" and of the "data" that it was calibrated on; bias: node -> what is
    added to its bias, per output channel, where it is int8 (quantization.bias).
    """

    ranges: Dict[str, Tuple[float, float]]
    kept: Dict[str, str]
    method: str
    per_channel: bool = True
    sha256: Dict[str, str] = dataclasses.field(default_factory=dict)
    bias: Dict[str, List[float]] = dataclasses.field(default_factory=dict)

    def describe(self) -> Dict[str, Any]:
        return {"format": FORMAT, **dataclasses.asdict(self)}


def record_of(output: PathLike) -> str:
    """Where the record of an int8 file lies: beside it."""
    return f"{output}.json"


def save_decision(path: PathLike, decision: Decision, facts: Dict[str, Any]) -> None:
    """`facts`: more that the record tells, such as what the search found."""
    write_json(path, {**decision.describe(), **facts})


def load_decision(path: PathLike) -> Decision:
    """Raises UserError when the file is not there, or is no record of int8."""
    record = read_record(path)
    if record is None:
        raise UserError(f"{path}: no such record of int8. quantize.py writes it beside its output")
    try:
        if record["format"] != FORMAT:
            raise UserError(f"{path}: a record of format {record['format']}, expected {FORMAT}. Run quantize.py again")
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in record["ranges"].items()}
        return Decision(ranges, dict(record["kept"]), str(record["method"]), bool(record["per_channel"]),
                        dict(record["sha256"]), dict(record["bias"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a record that quantize.py wrote ({error}). Run it again") from None
