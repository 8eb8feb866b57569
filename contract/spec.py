"""What a model is, as far as files, stages and backends need to know it; each kind of model has a room that says more.

A YAML file names its kind with the key TASK. AlphaPose's own files have no such key: they are pose models. darknet's
.cfg is a detector.
"""
from __future__ import annotations

import dataclasses
import importlib
import os
from typing import TYPE_CHECKING, Any, Dict, Mapping, Tuple

import numpy as np

from contract.errors import UserError
from contract.files import PathLike

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # Python 3.7 has none

Shape = Tuple[int, ...]

# Kind of model, as TASK says it -> module with load_spec(path). A room is imported when a file names its kind.
KINDS = {"pose": "pose.spec", "detector": "detection.spec"}
DEFAULT_KIND, DARKNET = "pose", ".cfg"


class Spec(Protocol):
    """One model. Shapes are of one row, without the batch."""

    input_name: str
    input_shape: Shape
    dtype: str  # of the input: float32 or uint8
    outputs: Mapping[str, Shape]  # by their names, in their order; float32

    def of_data(self) -> Dict[str, Any]:
        """What decides the values in bins and the reading of dumps, in JSON's types; not what belongs to weights."""


@dataclasses.dataclass(frozen=True)
class Tensors:
    """What a manifest says of its model, where no config is at hand."""

    input_shape: Shape
    dtype: str
    outputs: Mapping[str, Shape]


def load_spec(path: PathLike) -> Spec:
    """Read a model's YAML or darknet .cfg. Raises UserError when it is neither, or of no known kind."""
    kind = "detector" if os.fspath(path).endswith(DARKNET) else read_yaml(path).get("TASK", DEFAULT_KIND)
    if kind not in KINDS:
        raise UserError(f"{path}: TASK is {kind!r}, expected one of {', '.join(KINDS)}")
    return importlib.import_module(KINDS[kind]).load_spec(path)


def read_yaml(path: PathLike) -> Dict[str, Any]:
    """The mapping in a YAML file. Raises UserError where there is none."""
    import yaml  # here, because a server that runs models from their manifests has no need of it

    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected YAML, but {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected YAML with sections, such as DATA_PRESET and MODEL")
    return content


def row_bytes(shape: Shape, dtype: Any) -> int:
    """Bytes of one row in a bin or dump."""
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
