"""The facts about a model that files, stages and backends need. Each kind of model has a folder with the rest.

A YAML file names its kind with the key TASK. AlphaPose's own files have no such key: they are pose models. darknet's
.cfg is a detector.
"""
from __future__ import annotations

import dataclasses
import functools
import importlib
import operator
import os
from typing import TYPE_CHECKING, Any, Collection, Dict, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from contract.errors import UserError
from contract.files import PathLike

if TYPE_CHECKING:
    from typing import Protocol

    from contract.published import Published
else:
    Protocol = object  # Python 3.7 has none

Shape = Tuple[int, ...]

# Kind of model, as TASK says it -> module with load_spec(path). A room is imported when a file names its kind.
KINDS = {"pose": "pose.spec", "detector": "detection.spec", "reid": "reid.spec"}
LONGEST_YAML, DEEPEST_YAML = 2 ** 16, 16  # characters, and sections inside sections
DEFAULT_KIND = "pose"
KEYPOINTS, KEYPOINT_VALUES = "keypoints", 3  # output of a one-pass model; x, y in pixels of the crop, and the score
HEATMAP_AXES = 3  # joints, height, width
DARKNET, MMPOSE = ".cfg", ".py"
KIND_OF = {DARKNET: "detector", MMPOSE: "pose"}  # of configs that are not ours


class Spec(Protocol):
    """One model: a frozen dataclass of its kind. Shapes are of one row, without the batch.

    `network`, with `parameters` of its own, `geometry`, `decode` and `levels` are names: of what builds the model, what
    makes its input of a photo, what reads its output, and what two of its results can be compared by. `weights` is how
    the name of the file begins that the `published` figures are of.
    """

    @property
    def input_name(self) -> str: ...
    @property
    def input_shape(self) -> Shape: ...
    @property
    def dtype(self) -> str: ...  # of the input: float32 or uint8
    @property
    def mean(self) -> Tuple[float, ...]: ...  # of R, G, B in 0..1: the input is (value - mean) / std
    @property
    def std(self) -> Tuple[float, ...]: ...
    @property
    def outputs(self) -> Mapping[str, Shape]: ...  # by their names, in their order; float32
    @property
    def network(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def geometry(self) -> str: ...
    @property
    def decode(self) -> str: ...
    @property
    def levels(self) -> Tuple[str, ...]: ...
    @property
    def weights(self) -> Optional[str]: ...
    @property
    def published(self) -> Tuple[Published, ...]: ...

    def of_data(self) -> Dict[str, Any]:
        """What decides the values in bins and the reading of dumps, in JSON's types; not what belongs to weights."""


@dataclasses.dataclass(frozen=True)
class Tensors:
    """What a manifest says of its model, for stages without a config."""

    input_shape: Shape
    dtype: str
    outputs: Mapping[str, Shape]


def load_spec(path: PathLike) -> Spec:
    """Read a model's YAML, a darknet .cfg or an mmpose .py. Raises UserError when it is none, or of no known kind."""
    kind = KIND_OF.get(os.path.splitext(path)[1]) or read_yaml(path).get("TASK", DEFAULT_KIND)
    return importlib.import_module(KINDS[one_of(KINDS, kind, f"{path}: TASK")]).load_spec(path)


def one_of(known: Collection[str], name: Any, what: str) -> str:
    """`name`, which must be one of the known. Raises UserError that lists them; `what` is where it was given."""
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{what} is {name!r:.80}, expected one of {', '.join(known)}")
    return name


def read_yaml(path: PathLike) -> Dict[str, Any]:
    """The mapping in a YAML file. Raises UserError where there is none."""
    import yaml  # here, because a server that runs models from their manifests has no need of it

    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(LONGEST_YAML + 1)
        _refuse_bomb(text)
        content = _safe_loader()(text).get_single_data()  # as yaml.safe_load
    except FileNotFoundError:
        ours = os.path.join("configs", os.path.basename(path))
        advice = f". This project's own config of that name is {ours}: type that" if os.path.exists(ours) else ""
        raise UserError(f"{path}: no such config{advice}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no text, or a date such as 2026-02-30
        raise UserError(f"{path}: expected YAML, but {' '.join(str(error).split()):.300}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected YAML with sections, such as DATA_PRESET and MODEL")
    return content


def _safe_loader() -> Any:
    """libyaml's, which is ten times as fast, where PyYAML was built with it."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _refuse_bomb(text: str) -> None:
    """Raises ValueError where a few bytes could take minutes or gigabytes: an alias repeats what it names, and each
    level of nesting is a call. No model's file needs either."""
    import yaml

    depth = 0
    if len(text) > LONGEST_YAML:
        raise ValueError(f"it is longer than {LONGEST_YAML} characters")
    for event in yaml.parse(text, _safe_loader()):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_YAML:
            raise ValueError(f"it has more than {DEEPEST_YAML} levels")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {event.start_mark.line + 1} has the alias *{event.anchor:.40}; write out what it "
                             "stands for")


def outputs_of(spec: Union[Spec, Tensors], shape: Sequence[Optional[int]]) -> Mapping[str, Shape]:
    """What a model of `spec` gives whose output has this shape, without the batch: the outputs of `spec`, or, where
    these are heatmaps and the model has found their joints itself, x, y and score of each joint (one pass)."""
    joints = first_of(spec.outputs)[0]
    is_one_pass = len(first_of(spec.outputs)) == HEATMAP_AXES and tuple(shape) == (joints, KEYPOINT_VALUES)
    return {KEYPOINTS: (joints, KEYPOINT_VALUES)} if is_one_pass else spec.outputs


def first_of(outputs: Mapping[str, Shape]) -> Shape:
    """The shape of the output that dumps hold."""
    return tuple(next(iter(outputs.values())))


def row_bytes(shape: Shape, dtype: Any) -> int:
    """Bytes of one row in a bin or dump."""
    return functools.reduce(operator.mul, shape, 1) * np.dtype(dtype).itemsize
