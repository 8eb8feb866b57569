"""What a pose model takes and gives: one frozen record, read from AlphaPose's own YAML files or from ours.

Ours are AlphaPose's with three more keys: DATA_PRESET.MEAN, DATA_PRESET.STD and MODEL.WIDTH.
"""
from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from typing import Any, Dict, Optional, Tuple

import yaml

from contract.errors import UserError
from contract.files import PathLike

NUM_JOINTS = 17
# Left and right of COCO's 17 joints: eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
FLIP_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
# AlphaPose subtracts these from R, G, B in this order and divides by nothing. They look like ImageNet's means in the
# order B, G, R; the published weights were trained so.
ALPHAPOSE_MEAN = (0.406, 0.457, 0.480)
ALPHAPOSE_STD = (1.0, 1.0, 1.0)

# Keys that decide inference, then keys of AlphaPose's files that do not. Any other key in these sections is refused:
# an ignored typo would be measured as an accuracy difference.
DATA_PRESET_KEYS = ("IMAGE_SIZE", "HEATMAP_SIZE", "NUM_JOINTS", "MEAN", "STD")
DATA_PRESET_IGNORED = ("TYPE", "SIGMA", "LOSS_TYPE")
MODEL_KEYS = ("TYPE", "NUM_LAYERS", "CONV_DIM", "WIDTH")
MODEL_IGNORED = ("PRETRAINED", "TRY_LOAD", "NUM_DECONV_FILTERS")
REGRESSION_NORMS = ("sigmoid", "softmax")

FLOAT32, UINT8 = "float32", "uint8"
DTYPES = {FLOAT32: 4, UINT8: 1}  # what bins may hold -> bytes of a value


@dataclasses.dataclass(frozen=True)
class PoseConfig:
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
    def output_shape(self) -> Tuple[int, int, int]:
        return self.heatmap_shape

    @property
    def input_bytes(self) -> int:
        """Bytes of one crop in a bin."""
        return DTYPES[self.dtype] * math.prod(self.input_shape)

    @property
    def pixel_constants(self) -> Dict[str, Tuple[float, ...]]:
        """What normalises a byte, for R, G, B: ((pixel - mean_chn) - min_chn) * var_reci_chn.

        The names and the split are of Ascend's AIPP, whose mean_chn takes whole numbers and keeps min_chn, the rest, in
        float16. In exact arithmetic it is (pixel / 255 - mean) / std.
        """
        means = [255 * Decimal(repr(mean)) for mean in self.mean]  # as written: 103.53 and not 103.53000000000000111
        wholes = [min(max(math.floor(mean), 0), 255) for mean in means]
        return {"mean_chn": tuple(wholes),
                "min_chn": tuple(float(mean - whole) for mean, whole in zip(means, wholes)),
                "var_reci_chn": tuple(1 / (255 * std) for std in self.std)}

    def of_data(self) -> Dict[str, Any]:
        """The part of the YAML that decides bins and the reading of dumps; the rest belongs to the checkpoint."""
        return {"input_size": list(self.input_size), "heatmap_size": list(self.heatmap_size),
                "mean": list(self.mean), "std": list(self.std), "regression": self.regression}


def load_config(path: PathLike) -> PoseConfig:
    """Read a YAML file of AlphaPose's layout. Raises UserError naming the key that is missing, unknown or unusable."""
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected YAML, but {' '.join(str(error).split())}") from None
    try:
        return _from_sections(content if isinstance(content, dict) else {})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _from_sections(content: Dict[str, Any]) -> PoseConfig:
    data = _section(content, "DATA_PRESET", DATA_PRESET_KEYS, DATA_PRESET_IGNORED)
    # A network of another type brings keys of its own; its ONNX file can still be run and scored.
    is_fastpose = isinstance(content.get("MODEL"), dict) and content["MODEL"].get("TYPE") == "FastPose"
    model = _section(content, "MODEL", MODEL_KEYS, MODEL_IGNORED if is_fastpose else None)
    if data.get("NUM_JOINTS", NUM_JOINTS) != NUM_JOINTS:
        raise UserError(f"DATA_PRESET.NUM_JOINTS is {data['NUM_JOINTS']}, expected {NUM_JOINTS}: "
                        "mirroring and scoring are COCO's")
    return PoseConfig(
        input_size=_numbers(data, "IMAGE_SIZE", int, 2),
        heatmap_size=_numbers(data, "HEATMAP_SIZE", int, 2),
        mean=_numbers(data, "MEAN", float, 3, ALPHAPOSE_MEAN, signed=True),
        std=_numbers(data, "STD", float, 3, ALPHAPOSE_STD),
        network=str(model.get("TYPE", PoseConfig.network)),
        num_layers=_positive(model.get("NUM_LAYERS", PoseConfig.num_layers), "NUM_LAYERS", int),
        conv_dim=_positive(model.get("CONV_DIM", PoseConfig.conv_dim), "CONV_DIM", int),
        width=_positive(model.get("WIDTH", PoseConfig.width), "WIDTH", float),
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
        raise UserError(f"{key} is {value}, expected {count} numbers")
    return tuple((_number if signed else _positive)(item, key, kind) for item in value)


def _positive(value: Any, key: str, kind: type) -> Any:
    value = _number(value, key, kind)
    if value <= 0:
        raise UserError(f"{key} is {value}, expected more than 0")
    return value


def _number(value: Any, key: str, kind: type) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or kind(value) != value:
        raise UserError(f"{key} holds {value!r}, expected {kind.__name__}")
    return kind(value)


def _regression(loss: Dict[str, Any]) -> Optional[str]:
    kind = loss.get("TYPE", "MSELoss")
    if kind == "MSELoss":
        return None
    norm = loss.get("NORM_TYPE", "softmax")
    if kind != "L1JointRegression" or norm not in REGRESSION_NORMS:
        raise UserError(f"LOSS is {kind} with NORM_TYPE {norm}, expected MSELoss, or L1JointRegression with "
                        f"{' or '.join(REGRESSION_NORMS)}")
    return norm
