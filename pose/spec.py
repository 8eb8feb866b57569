"""What a pose model takes and gives: one frozen record, read from AlphaPose's own YAML files or from ours.

Ours are AlphaPose's with three more keys: DATA_PRESET.MEAN, DATA_PRESET.STD and MODEL.WIDTH.
"""
from __future__ import annotations

import dataclasses
from typing import Any, Dict, Optional, Tuple

from contract.errors import UserError
from contract.files import PathLike
from contract.pixels import ALPHAPOSE_MEAN, ALPHAPOSE_STD, FLOAT32
from contract.spec import read_yaml

NUM_JOINTS = 17
# Left and right of COCO's 17 joints: eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
FLIP_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
# Keys that decide inference, then keys of AlphaPose's files that do not. Any other key in these sections is refused:
# an ignored typo would be measured as an accuracy difference.
DATA_PRESET_KEYS = ("IMAGE_SIZE", "HEATMAP_SIZE", "NUM_JOINTS", "MEAN", "STD")
DATA_PRESET_IGNORED = ("TYPE", "SIGMA", "LOSS_TYPE")
MODEL_KEYS = ("TYPE", "NUM_LAYERS", "CONV_DIM", "WIDTH")
MODEL_IGNORED = ("PRETRAINED", "TRY_LOAD", "NUM_DECONV_FILTERS")
REGRESSION_NORMS = ("sigmoid", "softmax")
LARGEST = 1e6  # of any number
# Far beyond any model; what is larger takes gigabytes. A side of a crop or heatmap, channels, layers.
MOST = {"IMAGE_SIZE": 2048, "HEATMAP_SIZE": 2048, "CONV_DIM": 8192, "WIDTH": 8, "NUM_LAYERS": 1000}


@dataclasses.dataclass(frozen=True)
class PoseSpec:
    """Shapes and numbers of one pose model. Sizes are (height, width)."""

    input_size: Tuple[int, int] = (256, 192)
    heatmap_size: Tuple[int, int] = (64, 48)
    mean: Tuple[float, float, float] = ALPHAPOSE_MEAN  # of R, G, B in 0..1
    std: Tuple[float, float, float] = ALPHAPOSE_STD
    network: str = "FastPose"
    num_layers: int = 50
    conv_dim: int = 128  # channels before the last convolution
    width: float = 1.0  # multiplier of every channel count but the joints'
    regression: Optional[str] = None  # L1JointRegression's heatmap norm; None decodes the peak (MSELoss)
    dtype: str = FLOAT32  # of the input: normalised (3, H, W), or with UINT8 the crop's own bytes, (H, W, 3)

    @property
    def input_shape(self) -> Tuple[int, int, int]:
        return (3, *self.input_size) if self.dtype == FLOAT32 else (*self.input_size, 3)

    @property
    def heatmap_shape(self) -> Tuple[int, int, int]:
        return (NUM_JOINTS, *self.heatmap_size)

    @property
    def outputs(self) -> Dict[str, Tuple[int, ...]]:
        return {"output": self.heatmap_shape}

    def of_data(self) -> Dict[str, Any]:
        """The part of the YAML that decides bins and the reading of dumps; the rest belongs to the checkpoint."""
        return {"input_size": list(self.input_size), "heatmap_size": list(self.heatmap_size),
                "mean": list(self.mean), "std": list(self.std), "regression": self.regression}


def load_spec(path: PathLike) -> PoseSpec:
    """Read a YAML file of AlphaPose's layout. Raises UserError naming the key that is missing, unknown or unusable."""
    content = read_yaml(path)
    try:
        return _from_sections(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _from_sections(content: Dict[str, Any]) -> PoseSpec:
    data = _section(content, "DATA_PRESET", DATA_PRESET_KEYS, DATA_PRESET_IGNORED)
    # A network of another type brings keys of its own; its ONNX file can still be run and scored.
    is_fastpose = isinstance(content.get("MODEL"), dict) and content["MODEL"].get("TYPE") == "FastPose"
    model = _section(content, "MODEL", MODEL_KEYS, MODEL_IGNORED if is_fastpose else None)
    if data.get("NUM_JOINTS", NUM_JOINTS) != NUM_JOINTS:
        raise UserError(f"DATA_PRESET.NUM_JOINTS is {data['NUM_JOINTS']}, expected {NUM_JOINTS}: "
                        "mirroring and scoring are COCO's")
    return PoseSpec(
        input_size=_numbers(data, "IMAGE_SIZE", int, 2),
        heatmap_size=_numbers(data, "HEATMAP_SIZE", int, 2),
        mean=_of_fractions("MEAN", _numbers(data, "MEAN", float, 3, ALPHAPOSE_MEAN, signed=True), 1),
        std=_of_fractions("STD", _numbers(data, "STD", float, 3, ALPHAPOSE_STD), 10),
        network=str(model.get("TYPE", PoseSpec.network)),
        num_layers=_positive(model.get("NUM_LAYERS", PoseSpec.num_layers), "NUM_LAYERS", int),
        conv_dim=_positive(model.get("CONV_DIM", PoseSpec.conv_dim), "CONV_DIM", int),
        width=_positive(model.get("WIDTH", PoseSpec.width), "WIDTH", float),
        regression=_regression(_section(content, "LOSS", (), None) if content.get("LOSS") else {}),
    )


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


def _regression(loss: Dict[str, Any]) -> Optional[str]:
    kind = loss.get("TYPE", "MSELoss")
    if kind == "MSELoss":
        return None
    norm = loss.get("NORM_TYPE", "softmax")
    if kind != "L1JointRegression" or norm not in REGRESSION_NORMS:
        raise UserError(f"LOSS is {kind!s:.40} with NORM_TYPE {norm!s:.40}, expected MSELoss, or "
                        f"L1JointRegression with {' or '.join(REGRESSION_NORMS)}")
    return norm
