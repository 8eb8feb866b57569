"""What a pose model is: one frozen record, read from AlphaPose's own YAML files or from ours.

Ours are AlphaPose's with more keys: DATA_PRESET.MEAN, DATA_PRESET.STD, MODEL.WIDTH, and TASK, GEOMETRY, DECODE,
SKELETON, WEIGHTS and PUBLISHED at the top.
"""
from __future__ import annotations

import dataclasses
import os
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PathLike
from contract.pixels import ALPHAPOSE_MEAN, ALPHAPOSE_STD, FLOAT32, UINT8
from contract.published import Published, read_published, read_weights_name
from contract.spec import DEFAULT_KIND, KEYPOINTS, MMPOSE, Shape, one_of, read_yaml
from networks.registry import NETWORKS
from pose.decoders import DECODERS
from pose.geometry import GEOMETRIES
from pose.heatmaps import FLIP_SHIFTS
from pose.mmpose_config import read_mmpose_config
from pose.skeleton import COCO17, SKELETONS, Skeleton

# Keys that decide inference, then keys of AlphaPose's files that do not. Any other key in these sections is refused:
# an ignored typo would be measured as an accuracy difference.
DATA_PRESET_KEYS = ("IMAGE_SIZE", "HEATMAP_SIZE", "NUM_JOINTS", "MEAN", "STD")
DATA_PRESET_IGNORED = ("TYPE", "SIGMA", "LOSS_TYPE")
MODEL_IGNORED = ("PRETRAINED", "TRY_LOAD", "NUM_DECONV_FILTERS")
LARGEST = 1e6  # of any number
# Far beyond any model; what is larger takes gigabytes. A side of a crop or heatmap, channels, layers.
MOST = {"IMAGE_SIZE": 2048, "HEATMAP_SIZE": 2048, "CONV_DIM": 8192, "WIDTH": 8, "NUM_LAYERS": 1000}


@dataclasses.dataclass(frozen=True)
class Inside:
    """What a one-pass model does between the crop and its keypoints.

    `decode` is a key of DECODERS. `columns` are those of a mirrored crop's heatmap in the order that lays it over the
    crop's, shifted as FLIP_SHIFTS[`flip_shift`] does; without a flip test there are none.
    """

    decode: str
    flip_shift: Optional[str] = None
    columns: Tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class PoseSpec:
    """One top-down pose model. Sizes are (height, width).

    `network` is a key of NETWORKS, or another name for a network that only its model file describes; `parameters` are
    what the YAML's MODEL section says of it. `geometry` and `decode` are keys of GEOMETRIES and DECODERS. `weights` is
    how the file begins that the `published` figures are of. `inside` is of a one-pass model.
    """

    input_size: Tuple[int, int] = (256, 192)
    heatmap_size: Tuple[int, int] = (64, 48)
    mean: Tuple[float, float, float] = ALPHAPOSE_MEAN  # of R, G, B in 0..1
    std: Tuple[float, float, float] = ALPHAPOSE_STD
    dtype: str = FLOAT32  # of the input: normalised (3, H, W), or with UINT8 the crop's own bytes, (H, W, 3)
    network: str = "FastPose"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(NETWORKS["FastPose"].parameters))
    geometry: str = "alphapose"
    decode: str = "peak"
    skeleton: Skeleton = COCO17
    weights: Optional[str] = None
    published: Tuple[Published, ...] = ()
    input_name: str = "image"
    inside: Optional[Inside] = None

    @property
    def input_shape(self) -> Shape:
        return (3, *self.input_size) if self.dtype == FLOAT32 else (*self.input_size, 3)

    @property
    def outputs(self) -> Dict[str, Shape]:
        return DECODERS[self.decode].outputs(self)

    @property
    def levels(self) -> Tuple[str, ...]:
        """What two results of the model can be compared by."""
        return DECODERS[self.decode].levels

    def of_data(self) -> Dict[str, Any]:
        """What decides bins and the reading of dumps, in JSON's types; the rest belongs to the checkpoint."""
        return {"input_size": list(self.input_size), "heatmap_size": list(self.heatmap_size),
                "mean": list(self.mean), "std": list(self.std), "geometry": self.geometry, "decode": self.decode,
                "skeleton": self.skeleton.name}

    def one_pass(self, flip_shift: Optional[str] = "clean", dtype: str = UINT8, heatmaps: bool = False) -> PoseSpec:
        """The model that takes crops, mirrors them and finds the joints itself. `flip_shift` None is without a flip
        test. `heatmaps` gives the mean of both crops' heatmaps in place of keypoints, to look into it.

        Raises UserError where there is no such model.
        """
        (height, width), (rows, columns) = self.input_size, self.heatmap_size
        if self.decode == KEYPOINTS or heatmaps and not DECODERS[self.decode].of_the_mean:
            raise UserError(f"DECODE is {self.decode}, which " + (
                "has no mean of heatmaps" if self.decode != KEYPOINTS else "the model does already"))
        if height * columns != width * rows:
            raise UserError(f"HEATMAP_SIZE {rows} x {columns} is not of the shape of IMAGE_SIZE {height} x {width}, "
                            "so cells of a heatmap are no squares of the crop, which one pass needs")
        order = tuple(FLIP_SHIFTS[flip_shift](np.arange(columns)[::-1]).tolist()) if flip_shift else ()
        return dataclasses.replace(self, dtype=dtype, decode=self.decode if heatmaps else KEYPOINTS,
                                   inside=Inside(self.decode, flip_shift, order))


def spec_of_data(config: Mapping[str, Any], dtype: str) -> PoseSpec:
    """The inverse of `of_data`: the spec as far as bins and dumps tell."""
    values: Dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    values["skeleton"] = SKELETONS[values["skeleton"]]
    return PoseSpec(**values, dtype=dtype)


def load_spec(path: PathLike) -> PoseSpec:
    """Read a YAML file of AlphaPose's layout, or mmpose's own config.

    Raises UserError naming the key that is missing, unknown or unusable."""
    content = read_mmpose_config(path) if os.fspath(path).endswith(MMPOSE) else read_yaml(path)
    try:
        one_of((DEFAULT_KIND,), content.get("TASK", DEFAULT_KIND), "TASK")
        return _from_sections(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _from_sections(content: Dict[str, Any]) -> PoseSpec:
    data = _section(content, "DATA_PRESET", DATA_PRESET_KEYS, DATA_PRESET_IGNORED)
    network, parameters = _network(content)
    joints = data.get("NUM_JOINTS", len(COCO17))
    skeleton = SKELETONS[one_of(SKELETONS, content.get("SKELETON", COCO17.name), "SKELETON")]
    if joints != len(skeleton):
        raise UserError(f"DATA_PRESET.NUM_JOINTS is {joints}, expected {len(skeleton)}, the joints of {skeleton.name}: "
                        "mirroring and scoring go by them")
    return PoseSpec(
        input_size=_numbers(data, "IMAGE_SIZE", int, 2),
        heatmap_size=_numbers(data, "HEATMAP_SIZE", int, 2),
        mean=_of_fractions("MEAN", _numbers(data, "MEAN", float, 3, ALPHAPOSE_MEAN, signed=True), 1),
        std=_of_fractions("STD", _numbers(data, "STD", float, 3, ALPHAPOSE_STD), 10),
        network=network, parameters=parameters,
        geometry=one_of(GEOMETRIES, content.get("GEOMETRY", PoseSpec.geometry), "GEOMETRY"),
        decode=one_of(DECODERS, content.get("DECODE") or _decode_of_loss(content), "DECODE"),
        skeleton=skeleton, weights=read_weights_name(content), published=read_published(content.get("PUBLISHED")),
    )


def _network(content: Dict[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """The network and its parameters. One that is not ours brings keys of its own; its model files can still be run
    and scored."""
    name = str(_section(content, "MODEL", (), None).get("TYPE", PoseSpec.network))
    known = NETWORKS[name].parameters if name in NETWORKS else {}
    model = _section(content, "MODEL", ("TYPE", *known), MODEL_IGNORED if name in NETWORKS else None)
    for key in ("MEAN", "STD"):
        if key in model:
            raise UserError(f"MODEL.{key} is not read; it belongs in DATA_PRESET")
    return name, {key: _positive(model.get(key, default), key, type(default)) for key, default in known.items()}


def _section(content: Dict[str, Any], name: str, known: tuple, ignored: Optional[tuple]) -> Dict[str, Any]:
    """The mapping `name`; `ignored` None lets every other key pass."""
    section = content.get(name)
    if not isinstance(section, dict):
        raise UserError(f"expected a section {name}, as in AlphaPose's YAML files")
    unknown = [] if ignored is None else [key for key in section if key not in known and key not in ignored]
    if unknown:
        raise UserError(f"{name}.{unknown[0]} is not supported; known keys are {', '.join(known)}")
    return section


def _numbers(section: Dict[str, Any], key: str, kind: type, count: int, default: Optional[tuple] = None,
             signed: bool = False) -> tuple:
    value = section.get(key, default)
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise UserError(f"{key} is {value!r:.80}, expected {count} numbers")
    return tuple((_number if signed else _positive)(item, key, kind) for item in value)


def _of_fractions(key: str, values: tuple, most: float) -> tuple:
    """Values of pixels from 0 to 1. Those of 0 to 255, as other projects write them, would make crops nearly flat."""
    if max(map(abs, values)) > most:
        raise UserError(f"{key} is of pixels from 0 to 1, and {list(values)} looks like 0 to 255: divide by 255")
    return values


def _positive(value: Any, key: str, kind: type) -> Any:
    value = _number(value, key, kind)
    if not 0 < value <= MOST.get(key, LARGEST):
        raise UserError(f"{key} is {value}, expected more than 0 and at most {MOST.get(key, LARGEST)}")
    return value


def _number(value: Any, key: str, kind: type) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= LARGEST or kind(value) != value:  # NaN is not, either
        raise UserError(f"{key} holds {value!r:.80}, expected {kind.__name__}")
    return kind(value)


def _decode_of_loss(content: Dict[str, Any]) -> str:
    """How AlphaPose decodes a network that was trained with a loss."""
    loss = _section(content, "LOSS", (), None) if content.get("LOSS") else {}
    kind, norm = loss.get("TYPE", "MSELoss"), loss.get("NORM_TYPE", "softmax")
    if kind == "MSELoss":
        return "peak"
    if kind != "L1JointRegression" or f"regression_{norm}" not in DECODERS:
        raise UserError(f"LOSS is {kind!s:.40} with NORM_TYPE {norm!s:.40}, expected MSELoss, or L1JointRegression "
                        "with sigmoid or softmax")
    return f"regression_{norm}"
