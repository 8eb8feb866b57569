"""mmpose's own Python configs as the sections of our YAML: what decides crops, decoding and the network.

Top-down models with heatmaps, of 0.x and 1.x. What this project computes in another way is refused by its field.
"""
from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from contract.errors import UserError
from contract.files import PathLike
from contract.python_config import read_python_config

SUFFIX = ".py"
V0, V1 = "mmpose-0.x", "mmpose-1.x"
PADDING = 1.25
HOURGLASS = "HourglassNet"
SIMCC = "SimCC"


def read_mmpose_config(path: PathLike) -> Dict[str, Any]:
    """The sections of our YAML. Raises UserError that names the field which is missing or not supported."""
    content = read_python_config(path)
    model = content.get("model")
    if not isinstance(model, dict):
        raise UserError(f"{path}: expected mmpose's `model = dict(...)`. Where _base_ names a file with it, put that "
                        "file where it says, or give the complete config, which mmpose's print_config.py writes")
    try:
        return _of_0x(content, model) if "keypoint_head" in model else _of_1x(content, model)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _of_0x(content: Mapping[str, Any], model: Mapping[str, Any]) -> Dict[str, Any]:
    _expect(model, "type", ("TopDown",), "model")
    test = model.get("test_cfg", {})
    _expect(test, "post_process", ("default",), "model.test_cfg", default="default")
    _expect(test, "use_udp", (False,), "model.test_cfg", default=False)
    _expect(test, "shift_heatmap", (True,), "model.test_cfg", default=False)
    data = _item(content, "data_cfg", "")
    steps = _steps(content, ("val_pipeline", "test_pipeline"))
    _expect(steps["TopDownAffine"], "use_udp", (False,), "TopDownAffine", default=False)
    _expect(steps.get("TopDownGetBboxCenterScale", {}), "padding", (PADDING,), "TopDownGetBboxCenterScale",
            default=PADDING)
    normalize = _item(steps, "NormalizeTensor", "val_pipeline")
    image_size, heatmap_size = (_item(data, name, "data_cfg") for name in ("image_size", "heatmap_size"))
    mean, std = (_item(normalize, name, "NormalizeTensor") for name in ("mean", "std"))
    return _sections(V0, image_size, heatmap_size, mean, std,
                     _item(model["keypoint_head"], "out_channels", "model.keypoint_head"), model)


def _of_1x(content: Mapping[str, Any], model: Mapping[str, Any]) -> Dict[str, Any]:
    _expect(model, "type", ("TopdownPoseEstimator",), "model")
    head = _item(model, "head", "model")
    codec = head.get("decoder")
    kind = _item(codec, "type", "model.head.decoder") if isinstance(codec, dict) else codec
    if SIMCC in str(kind):
        raise UserError(f"model.head.decoder is {kind}: SimCC models, such as RTMPose, give two vectors a joint and no "
                        "heatmaps, which is not supported. Take a model with the codec MSRAHeatmap")
    _expect(codec, "type", ("MSRAHeatmap",), "model.head.decoder")
    _expect(codec, "unbiased", (False,), "model.head.decoder", default=False)
    test = model.get("test_cfg", {})
    _expect(test, "flip_mode", ("heatmap",), "model.test_cfg", default="heatmap")
    _expect(test, "shift_heatmap", (True,), "model.test_cfg", default=False)
    steps = _steps(content, ("val_pipeline", "test_pipeline"))
    _expect(steps.get("TopdownAffine", {}), "use_udp", (False,), "TopdownAffine", default=False)
    _expect(steps.get("GetBBoxCenterScale", {}), "padding", (PADDING,), "GetBBoxCenterScale", default=PADDING)
    pixels = _item(model, "data_preprocessor", "model")
    _expect(pixels, "bgr_to_rgb", (True,), "model.data_preprocessor")
    mean, std = (_in_unit_range(_item(pixels, name, "data_preprocessor")) for name in ("mean", "std"))
    return _sections(V1, _item(codec, "input_size", "codec"), _item(codec, "heatmap_size", "codec"), mean, std,
                     _item(head, "out_channels", "model.head"), model)


def _in_unit_range(values: Any) -> Any:
    """Of pixels from 0 to 255, as 1.x gives them; what is no list of numbers is told of later."""
    try:
        return [round(value / 255, 6) for value in values]
    except TypeError:
        return values


def _sections(version: str, image_size: Any, heatmap_size: Any, mean: Any, std: Any, joints: Any,
              model: Mapping[str, Any]) -> Dict[str, Any]:
    """mmpose's sizes are (width, height)."""
    height_first, heatmap = (size[::-1] if isinstance(size, (list, tuple)) else size
                             for size in (image_size, heatmap_size))
    return {"DATA_PRESET": {"IMAGE_SIZE": height_first, "HEATMAP_SIZE": heatmap, "NUM_JOINTS": joints, "MEAN": mean,
                            "STD": std},
            "MODEL": _network(_item(model, "backbone", "model")), "GEOMETRY": version, "DECODE": version}


def _network(backbone: Mapping[str, Any]) -> Dict[str, Any]:
    """Hourglass is a network of ours; of any other, model files can be run."""
    kind = _item(backbone, "type", "model.backbone")
    if kind != HOURGLASS:
        return {"TYPE": str(kind)}
    of_hourglass52 = {"stage_channels": (256, 256, 384, 384, 384, 512), "stage_blocks": (2, 2, 2, 2, 2, 4),
                      "feat_channel": 256, "downsample_times": 5}
    for field, value in of_hourglass52.items():
        came = backbone.get(field, value)
        if (tuple(came) if isinstance(came, list) else came) != value:
            raise UserError(f"model.backbone.{field} is {came}, expected mmpose's default {value}")
    return {"TYPE": "Hourglass", "STACKS": backbone.get("num_stacks", 2)}  # mmpose's default


def _steps(content: Mapping[str, Any], names: Tuple[str, ...]) -> Dict[str, Mapping[str, Any]]:
    """Type of a step -> its arguments, of the pipeline that tests."""
    pipeline: List[Any] = next((content[name] for name in names if isinstance(content.get(name), list)), [])
    return {step["type"]: step for step in pipeline if isinstance(step, dict) and "type" in step}


def _item(section: Any, field: str, where: str) -> Any:
    if not isinstance(section, Mapping) or field not in section:
        raise UserError(f"expected {where + '.' if where else ''}{field}, as in mmpose's top-down configs")
    return section[field]


def _expect(section: Mapping[str, Any], field: str, allowed: Tuple[Any, ...], where: str, **default: Any) -> None:
    value = section.get(field, *default.values()) if default else _item(section, field, where)
    if value not in allowed:
        raise UserError(f"{where}.{field} is {value!r}, expected {' or '.join(map(repr, allowed))}: other ways are not "
                        "supported")
