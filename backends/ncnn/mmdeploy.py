"""mmdeploy's deploy configs for ncnn, field by field: read, or refused with the reason."""
from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Tuple

from contract.errors import UserError
from contract.files import PathLike
from contract.python_config import read_python_config

TASK = "PoseDetection"


class DeployConfig(NamedTuple):
    """`input_size` is (height, width), None where the config leaves it to the model."""

    precision: str
    input_size: Optional[Tuple[int, int]]


def read_deploy_config(path: PathLike) -> DeployConfig:
    """Raises UserError that names the first field which asks for what is not done here."""
    content = read_python_config(path)
    codebase, onnx, backend = (_section(content, name, path) for name in
                               ("codebase_config", "onnx_config", "backend_config"))
    checks = (("codebase_config.type", codebase.get("type", "mmpose"), ("mmpose",)),
              ("codebase_config.task", codebase.get("task", TASK), (TASK,)),
              ("backend_config.type", backend.get("type"), ("ncnn",)),
              ("backend_config.precision", str(backend.get("precision", "FP32")).upper(), ("FP32", "FP16", "INT8")),
              ("backend_config.use_vulkan", backend.get("use_vulkan", False), (False,)))
    for field, value, allowed in checks:
        if value not in allowed:
            raise UserError(f"{path}: {field} is {value!r}, expected {' or '.join(map(repr, allowed))}: here ncnn runs "
                            "pose models on the CPU")
    return DeployConfig(str(backend.get("precision", "FP32")).lower(), _size(onnx.get("input_shape"), path))


def _section(content: Mapping[str, Any], name: str, path: PathLike) -> Mapping[str, Any]:
    section = content.get(name, {})
    if not isinstance(section, Mapping) or name == "backend_config" and not section:
        raise UserError(f"{path}: expected {name} = dict(...), as in mmdeploy's deploy configs. Put the files of its "
                        "_base_ where it says")
    return section


def _size(shape: Any, path: PathLike) -> Optional[Tuple[int, int]]:
    """mmdeploy's are (width, height)."""
    if shape is None:
        return None
    if not isinstance(shape, (list, tuple)) or len(shape) != 2 or not all(isinstance(side, int) for side in shape):
        raise UserError(f"{path}: onnx_config.input_shape is {shape!r}, expected [width, height]")
    return shape[1], shape[0]
