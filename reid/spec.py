"""What a re-identification model is: one frozen record, read from FastReID's YAML files or from ours.

Ours are FastReID's with TASK: reid and, where needed, MODEL.BACKBONE.WIDTH, MODEL.HEADS.L2 (features of length 1),
INPUT.MEAN and INPUT.STD (of R, G, B in 0..1, for an ONNX file that expects normalised crops), INPUT.RESIZE, WEIGHTS and
PUBLISHED.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import yaml

from contract.errors import UserError
from contract.files import PathLike
from contract.pixels import FASTREID_MEAN, FASTREID_STD, FLOAT32
from contract.published import Published, read_published, read_weights_name
from contract.spec import Shape, one_of, read_yaml
from reid.crops import RESIZES

# FastReID's models take pixels from 0 to 255 and normalise them inside.
PIXELS = (1 / 255, 1 / 255, 1 / 255)
BASE = "_BASE_"  # names the file whose values a FastReID file changes
# The baseline of every BagTricks config, where a file names it and it is not there.
BAGTRICKS_BASE = "Base-bagtricks.yml"
BAGTRICKS = {"MODEL": {"META_ARCHITECTURE": "Baseline",
                       "BACKBONE": {"NAME": "build_resnet_backbone", "DEPTH": "50x", "LAST_STRIDE": 1},
                       "HEADS": {"NAME": "EmbeddingHead", "WITH_BNNECK": True, "POOL_LAYER": "GlobalAvgPool"}},
             "INPUT": {"SIZE_TEST": [256, 128]}}
LARGEST = 1e6  # of any number
# What is built here: section and key -> the values that it may have. A model of another value is refused by that key.
SUPPORTED = {("MODEL", "META_ARCHITECTURE"): ("Baseline",),
             ("MODEL.BACKBONE", "NAME"): ("build_resnet_backbone",), ("MODEL.BACKBONE", "DEPTH"): ("50x", "101x"),
             ("MODEL.BACKBONE", "WITH_SE"): (False,), ("MODEL.BACKBONE", "WITH_IBN"): (True, False),
             ("MODEL.BACKBONE", "WITH_NL"): (True, False), ("MODEL.BACKBONE", "LAST_STRIDE"): (1, 2),
             ("MODEL.HEADS", "POOL_LAYER"): ("GlobalAvgPool", "avgpool"), ("MODEL.HEADS", "WITH_BNNECK"): (True,),
             ("MODEL.HEADS", "EMBEDDING_DIM"): (0,), ("MODEL.HEADS", "L2"): (False, True)}


@dataclasses.dataclass(frozen=True)
class ReidSpec:
    """One model from a person's crop to a feature. Sizes are (height, width).

    `geometry` is a key of RESIZES: how a crop of any size becomes the input. The rest is what every spec has.
    """

    input_size: Tuple[int, int] = (256, 128)
    dim: int = 2048  # of the feature
    dtype: str = FLOAT32  # of the input: (3, H, W), or with uint8 the crop's own bytes, (H, W, 3)
    mean: Tuple[float, ...] = (0.0, 0.0, 0.0)
    std: Tuple[float, ...] = PIXELS
    network: str = "BagTricks"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    geometry: str = "pil"
    decode: str = "embedding"
    levels: Tuple[str, ...] = ("features",)
    weights: Optional[str] = None
    published: Tuple[Published, ...] = ()
    input_name: str = "image"

    @property
    def input_shape(self) -> Shape:
        return (3, *self.input_size) if self.dtype == FLOAT32 else (*self.input_size, 3)

    @property
    def outputs(self) -> Dict[str, Shape]:
        return {"output": (self.dim,)}

    def of_data(self) -> Dict[str, Any]:
        return {"input_size": list(self.input_size), "dim": self.dim, "mean": list(self.mean), "std": list(self.std),
                "geometry": self.geometry, "decode": self.decode}


def load_spec(path: PathLike, changes: Sequence[str] = ()) -> ReidSpec:
    """Read a YAML file; `changes` are FastReID's --opts, KEY VALUE KEY VALUE. Raises UserError naming the key of what
    is not built here."""
    content = _with_base(Path(path))
    if len(changes) % 2:
        raise UserError(f"--opts {' '.join(changes)}: expected KEY VALUE pairs, such as MODEL.BACKBONE.WITH_IBN True")
    for key, value in zip(changes[::2], changes[1::2]):
        _set(content, key, value)
    try:
        return _from_sections(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _with_base(path: Path) -> Dict[str, Any]:
    content = read_yaml(path)
    name = content.pop(BASE, None)
    if name is None:
        return content
    base = path.parent / str(name)
    if base.exists() or base.name != BAGTRICKS_BASE:
        return _merged(_with_base(base), content)
    return _merged(BAGTRICKS, content)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Dict[str, Any]:
    both = {key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
            for key, value in changes.items()}
    return {**base, **both}


def _set(content: Dict[str, Any], key: str, value: str) -> None:
    """MODEL.BACKBONE.WITH_IBN True, as FastReID takes it."""
    *sections, last = key.split(".")
    for section in sections:
        content[section] = dict(content.get(section) or {})
        content = content[section]
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        content[last] = value


def _section(content: Dict[str, Any], path: str) -> Dict[str, Any]:
    for name in path.split("."):
        content = content.get(name, {})
        if not isinstance(content, dict):
            raise UserError(f"{path} is {content!r}, expected a section")
    return content


def _from_sections(content: Dict[str, Any]) -> ReidSpec:
    for (section, key), values in SUPPORTED.items():
        value = _section(content, section).get(key, values[0])
        if value not in values:
            raise UserError(f"{section}.{key} is {value}, expected {' or '.join(map(str, values))}: the BagTricks "
                            "baseline is what is built here. An ONNX file of another model can still be run")
    backbone, images = _section(content, "MODEL.BACKBONE"), _section(content, "INPUT")
    for key, expected in (("PIXEL_MEAN", FASTREID_MEAN), ("PIXEL_STD", FASTREID_STD)):
        came = _numbers(f"MODEL.{key}", _section(content, "MODEL").get(key, expected), 3, least=None)
        if not np.allclose(came, expected, rtol=1e-4):
            raise UserError(f"MODEL.{key} is {list(came)}, expected {list(expected)}: the network holds these. Give "
                            "its ONNX file instead")
    width = _numbers("MODEL.BACKBONE.WIDTH", [backbone.get("WIDTH", 1.0)], 1)[0]
    height, crop_width = _numbers("INPUT.SIZE_TEST", images.get("SIZE_TEST", ReidSpec.input_size), 2)
    return ReidSpec(
        input_size=(int(height), int(crop_width)),
        dim=int(_numbers("MODEL.BACKBONE.FEAT_DIM", [backbone.get("FEAT_DIM", 32 * max(1, round(64 * width)))], 1)[0]),
        mean=_numbers("INPUT.MEAN", images.get("MEAN", ReidSpec.mean), 3, least=None),
        std=_numbers("INPUT.STD", images.get("STD", ReidSpec.std), 3),
        parameters={"NUM_LAYERS": int(str(backbone.get("DEPTH", "50x")).rstrip("x")),
                    "IBN": backbone.get("WITH_IBN", False), "NON_LOCAL": backbone.get("WITH_NL", False),
                    "LAST_STRIDE": backbone.get("LAST_STRIDE", 1), "WIDTH": width,
                    "L2": _section(content, "MODEL.HEADS").get("L2", False)},
        geometry=one_of(RESIZES, images.get("RESIZE", ReidSpec.geometry), "INPUT.RESIZE"),
        weights=read_weights_name(content), published=read_published(content.get("PUBLISHED")))


def _numbers(key: str, values: Any, count: int, least: Optional[float] = 0) -> Tuple[float, ...]:
    if not isinstance(values, (list, tuple)) or len(values) != count or not all(
            isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
            and (least is None or value > least) for value in values):
        bound = "" if least is None else f" above {least}"
        raise UserError(f"{key} is {values}, expected {count} numbers{bound}")
    return tuple(map(float, values))
