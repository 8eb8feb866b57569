"""What a detector is: darknet's .cfg, and the YAML of the same name beside it with what was published of its weights.

    TASK: detector
    CFG: yolov3-spp.cfg      beside this file
    WEIGHTS, PUBLISHED       as in every model's YAML
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from contract.errors import UserError
from contract.files import PathLike
from contract.pixels import FLOAT32
from contract.published import Published, read_published, read_weights_name
from contract.spec import DARKNET, Shape, read_yaml
from detection.blocks import Network
from detection.darknet import read_cfg

KEYS = ("TASK", "CFG", "WEIGHTS", "PUBLISHED")


@dataclasses.dataclass(frozen=True)
class DetectorSpec:
    """One detector of people; `layers` is the parsed .cfg. The fields are those of every spec."""

    layers: Network
    weights: Optional[str] = None
    published: Tuple[Published, ...] = ()
    dtype: str = FLOAT32
    mean: Tuple[float, ...] = (0.0, 0.0, 0.0)
    std: Tuple[float, ...] = (1.0, 1.0, 1.0)
    network: str = "darknet"
    parameters: Dict[str, Any] = dataclasses.field(default_factory=dict)
    geometry: str = "letterbox"
    decode: str = "boxes"
    levels: Tuple[str, ...] = ("tensors",)
    input_name: str = "image"

    @property
    def input_shape(self) -> Shape:
        return 3, self.layers.height, self.layers.width

    @property
    def outputs(self) -> Dict[str, Shape]:
        return {"output": self.layers.output_shape}

    def of_data(self) -> Dict[str, Any]:
        """The letterbox follows from the input's shape, and the rows' meaning from the .cfg beside the weights."""
        return {"geometry": self.geometry, "decode": self.decode}


def load_spec(path: PathLike) -> DetectorSpec:
    """Read a .cfg or a detector's YAML. Raises UserError for what is neither."""
    path = Path(path)
    sheet = path.with_suffix(".yaml") if path.suffix == DARKNET else path
    content = read_yaml(sheet) if path.suffix != DARKNET or sheet.exists() else {}
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise UserError(f"{sheet}: {unknown[0]} is not supported; known keys are {', '.join(KEYS)}")
    if path.suffix != DARKNET and not isinstance(content.get("CFG"), str):
        raise UserError(f"{sheet}: CFG is {content.get('CFG')!r}, expected the name of a darknet .cfg beside it")
    cfg = path if path.suffix == DARKNET else path.with_name(content["CFG"])
    try:
        weights, published = read_weights_name(content), read_published(content.get("PUBLISHED"))
    except UserError as error:
        raise UserError(f"{sheet}: {error}") from None
    return DetectorSpec(read_cfg(cfg), weights, published)
