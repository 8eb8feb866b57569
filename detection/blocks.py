"""The blocks of a darknet network: one frozen spec per block, in the order and with the numbers of its cfg.

Blocks are counted from 0 without [net], as darknet counts them. Shapes are (channels, height, width).
"""
from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Set, Tuple, Union

from contract.errors import UserError

COCO_CLASSES, PERSON = 80, "person"
BOX_ATTRIBUTES = 5  # tx, ty, tw, th, objectness; the classes follow
LEAKY_SLOPE = 0.1
ACTIVATIONS = ("leaky", "linear", "logistic", "mish", "relu")
BN_EPS = 1e-5  # AlphaPose runs batch norm with torch's default
DARKNET_BN_EPS = 1e-6  # as OpenCV's reader of darknet; darknet itself adds as much to the standard deviation

Shape = Tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Convolution:
    """`strides` are down and across; `activation` is one of ACTIVATIONS."""
    shape: Shape
    in_channels: int
    size: int
    strides: Tuple[int, int]
    padding: int
    batch_normalize: bool
    activation: str
    groups: int = 1
    eps: float = BN_EPS

    def layout(self) -> Dict[str, Tuple[int, ...]]:
        """Names and shapes of its arrays, in the order of the weights file."""
        filters = self.shape[0]
        normalised = ("scale", "mean", "variance") if self.batch_normalize else ()
        return {**dict.fromkeys(("bias", *normalised), (filters,)),
                "kernel": (filters, self.in_channels // self.groups, self.size, self.size)}


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """`padding` values in all, the smaller half first; with `zero_padded` they are zeros, else what never wins."""
    shape: Shape
    size: int
    strides: Tuple[int, int]
    padding: int
    zero_padded: bool = False


@dataclasses.dataclass(frozen=True)
class Upsample:
    shape: Shape
    stride: int


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """The block before, plus block `source`."""
    shape: Shape
    source: int


@dataclasses.dataclass(frozen=True)
class Route:
    """The channels of blocks `sources`, one after another; with `parts`, of each those from its first to before its
    last number."""
    shape: Shape
    sources: Tuple[int, ...]
    parts: Tuple[Tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Yolo:
    """A head: its input, unchanged, is (anchors * (5 + classes), h, w) raw predictions. Anchors in input pixels.

    `scale` stretches what a cell's centre can reach about the middle of the cell (scale_x_y). With `squared` a size is
    anchor * (2 * sigmoid)^2 (new_coords), else anchor * exp.
    """
    shape: Shape
    anchors: Tuple[Tuple[float, float], ...]
    classes: int
    scale: float = 1.0
    squared: bool = False
    person: int = 0  # class of people, counted from 0


Block = Union[Convolution, MaxPool, Upsample, Shortcut, Route, Yolo]


@dataclasses.dataclass(frozen=True)
class Network:
    width: int
    height: int
    blocks: Tuple[Block, ...]
    names: Tuple[str, ...] = ()  # of the classes, where a names file says them

    @property
    def input_shape(self) -> Shape:
        return 3, self.height, self.width

    @property
    def output_shape(self) -> Tuple[int, int]:
        return self.rows, self.columns

    @property
    def convolutions(self) -> List[Convolution]:
        return [block for block in self.blocks if isinstance(block, Convolution)]

    @property
    def heads(self) -> List[Yolo]:
        return [block for block in self.blocks if isinstance(block, Yolo)]

    @property
    def rows(self) -> int:
        """Predictions of a photo: anchors times cells, over all heads. 22,743 for yolov3 at 608."""
        return sum(len(head.anchors) * head.shape[1] * head.shape[2] for head in self.heads)

    @property
    def columns(self) -> int:
        """Numbers of a prediction that selection needs: the box, the person, and the best other class if any."""
        return BOX_ATTRIBUTES + min(self.heads[0].classes, 2)

    def of_person(self, number: Optional[int] = None) -> Network:
        """The network with class `number` for people; without one it is the class called person, where there are names,
        or class 0 of COCO's 80, or the only class.

        Raises UserError where class 0 may be anything: an aeroplane in yolov3-voc, a tortoise in yolov3-openimages.
        """
        classes = self.heads[0].classes
        if number is None and self.names:
            found = self.called_person
            if len(found) != 1:
                raise UserError(f"{len(found)} classes of this detector are called {PERSON}, expected one: "
                                f"{', '.join(self.names):.200}. Give its number, counted from 0, as --person_class")
            number = found[0]
        if number is None and classes not in (1, COCO_CLASSES):
            raise UserError(f"this detector has {classes} classes, and only of {COCO_CLASSES} or 1 it is known that "
                            "class 0 is a person. Give its number, counted from 0, as --person_class (of VOC's 20 it "
                            "is 14), or put the detector's .names file beside the cfg")
        if not 0 <= (number or 0) < classes:
            raise UserError(f"--person_class is {number}, expected 0 to {classes - 1}: the detector has {classes} "
                            "classes")
        return dataclasses.replace(self, blocks=tuple(
            dataclasses.replace(block, person=number or 0) if isinstance(block, Yolo) else block
            for block in self.blocks))

    @property
    def called_person(self) -> List[int]:
        """Classes, counted from 0."""
        return [number for number, name in enumerate(self.names) if name.lower() == PERSON]

    @property
    def referred(self) -> Set[int]:
        """Blocks whose output a later shortcut or route takes."""
        shortcuts = {block.source for block in self.blocks if isinstance(block, Shortcut)}
        return shortcuts.union(*(block.sources for block in self.blocks if isinstance(block, Route)))
