"""What others have published of a model, with its source and how it was measured, as the model's YAML holds it.

    WEIGHTS: fast_res50_256x192          how the file begins that the figures are of
    PUBLISHED:
      - SOURCE: who published it
        PROTOCOL: how it was measured
        DEVICE: Ascend310P               as backends name it, up to a number; or "any"
        BACKEND: tensorrt                where it matters
        BOXES: detections                of scores, ground_truth otherwise
        AP: {1: 0.7147, 16: 0.7147}      figures, by batch size
        MOTA: 0.583                      or one without

None was measured here.
"""
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from contract.errors import UserError
from contract.pixels import FLOAT32

if TYPE_CHECKING:
    from contract.spec import Spec

ANY = "any"  # device
ABOUT = ("SOURCE", "PROTOCOL", "DEVICE", "BACKEND", "BOXES")
NEEDED = ABOUT[:3]


class Published(NamedTuple):
    """One cell of a published table. `batch` is None where none was named."""

    figure: str
    value: float
    batch: Optional[int]
    source: str
    protocol: str
    device: str
    backend: Optional[str] = None
    boxes: Optional[str] = None

    @property
    def where(self) -> str:
        return " on ".join(part for part in (self.backend, self.device) if part and part != ANY)

    def is_of(self, settings: Mapping[str, Any]) -> bool:
        """Whether it is of what made some dumps: the device, up to a number such as that of Ascend310P3, and the
        backend. `settings` are those beside the dumps."""
        device = self.device == ANY or re.fullmatch(rf"{re.escape(self.device)}\d*", str(settings.get("device")))
        return bool(device) and self.backend in (None, settings.get("backend"))


def published_of(spec: Spec, settings: Mapping[str, Any], boxes: str) -> List[Published]:
    """What was published of this model, these boxes and what made the dumps, whose `settings` these are. A score is
    published for some batches and is of all. All of them are of float32 bins."""
    of_bytes = (settings.get("bins") or {}).get("dtype", FLOAT32) != FLOAT32
    if of_bytes or not spec.weights or not str(settings.get("model")).startswith(spec.weights):
        return []
    return [cell for cell in spec.published if cell.is_of(settings) and cell.boxes in (None, boxes)
            and (cell.boxes or cell.batch in (None, settings.get("batch")))]


def expectations(spec: Spec, settings: Mapping[str, Any], got: Mapping[str, Optional[float]],
                 boxes: str) -> List[str]:
    """A line for each figure of `got` that was published: AP: expected 0.7147 (published, Ascend310P), got 0.7145."""
    lines = [f"{cell.figure}: expected {cell.value} (published, {cell.where}), got {got[cell.figure]:.4g}"
             for cell in published_of(spec, settings, boxes) if got.get(cell.figure) is not None]
    return list(dict.fromkeys(lines))


def read_weights_name(content: Mapping[str, Any]) -> Optional[str]:
    """WEIGHTS of a model's YAML. Raises UserError when it is no name."""
    name = content.get("WEIGHTS")
    if name is not None and not isinstance(name, str):
        raise UserError(f"WEIGHTS is {name!r}, expected how the weights' file is called, without its ending")
    return name


def read_published(section: Any) -> Tuple[Published, ...]:
    """The figures of a PUBLISHED section. Raises UserError for an entry of another form."""
    if not isinstance(section or [], list):
        raise UserError(f"PUBLISHED is {section!r}, expected a list")
    found: List[Published] = []
    for number, entry in enumerate(section or ()):
        if not isinstance(entry, dict) or any(not isinstance(entry.get(key), str) for key in NEEDED):
            raise UserError(f"PUBLISHED: entry {number}: expected {', '.join(NEEDED)} and figures")
        about = {key.lower(): entry[key] for key in ABOUT if key in entry}
        for figure in entry.keys() - set(ABOUT):
            found += [Published(figure, value, batch, **about) for batch, value in _cells(entry[figure], number)]
    return tuple(sorted(found, key=str))


def _cells(values: Any, number: int) -> List[Tuple[Optional[int], float]]:
    cells: Dict[Any, Any] = values if isinstance(values, dict) else {None: values}
    for batch, value in cells.items():
        if not isinstance(value, (int, float)) or not (batch is None or isinstance(batch, int)):
            raise UserError(f"PUBLISHED: entry {number}: {batch!r}: {value!r} is not a batch size and a number")
    return list(cells.items())
