"""Network definition, ONNX parser and optimization profile."""
from __future__ import annotations

import functools
from typing import Any, Dict, List, Sequence, Tuple

import onnx

from .base import ERROR, Failure, Thing, api
from .enums import Enums
from .machine import machine

Shape = Tuple[int, ...]
KINDS = {"FLOAT": "FLOAT", "FLOAT16": "HALF", "INT8": "INT8", "INT32": "INT32", "BOOL": "BOOL", "UINT8": "UINT8",
         "INT64": "INT64"}  # ONNX's names of types -> TensorRT's
UNKNOWN = "Custom"  # start of the operators that no TensorRT has, for tests


@functools.cache
def enums_of(major: int) -> Enums:
    return Enums(major)


class Dims(tuple):
    """A shape; -1 is a size that is not known yet."""


class ITensor:
    def __init__(self, value: Any):
        tensor = value.type.tensor_type
        self.name = value.name
        self.shape = Dims(size.dim_value or -1 for size in tensor.shape.dim)
        self.dtype = enums_of(machine().major).DataType[KINDS[onnx.TensorProto.DataType.Name(tensor.elem_type)]]


class ILayer:
    """A node of the ONNX file, with what was asked of its arithmetic."""

    def __init__(self, node: Any, outputs: List[ITensor]):
        self.name, self._outputs = node.name, outputs
        self.precision: Any = None
        self._types: Dict[int, Any] = {}

    num_outputs = property(lambda self: len(self._outputs))

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._types[index] = dtype


class INetworkDefinition(Thing):
    def __init__(self, builder: Thing, flags: int):
        super().__init__(builder._logger)
        names = enums_of(machine().major).NetworkDefinitionCreationFlag
        if flags >> len(names):
            raise TypeError(f"create_network(): flags {flags:#x} are not those of this version")
        self._flags = {flag.name for flag in names if flags >> int(flag) & 1}
        self._inputs: List[ITensor] = []
        self._outputs: List[ITensor] = []
        self._layers: List[ILayer] = []
        self._onnx = b""

    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    @property
    def typed(self) -> bool:
        return machine().major >= 11 or "STRONGLY_TYPED" in self._flags


class ParserError:
    def __init__(self, text: str, node: int):
        self._text, self._node = text, node

    def desc(self) -> str:
        return self._text

    def node(self) -> int:
        return self._node

    def __str__(self) -> str:
        return f"In node {self._node} (parseNode): UNSUPPORTED_NODE: {self._text}"


class OnnxParser(Thing):
    def __init__(self, network: INetworkDefinition, logger: Any):
        super().__init__(logger)
        self._network, self._errors = network, []  # type: ignore[var-annotated]

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    @api(False)
    def parse(self, model: Any, path: str = None) -> bool:
        return self._parse(bytes(model))

    @api(False)
    def parse_from_file(self, model: str) -> bool:
        if not isinstance(model, str):
            raise TypeError("parse_from_file(): incompatible function arguments: model is a str")
        try:
            with open(model, "rb") as file:
                return self._parse(file.read())
        except OSError:
            raise Failure(f"Failed to open file: {model}") from None

    def _parse(self, content: bytes) -> bool:
        network = self._network
        if machine().major < 10 and "EXPLICIT_BATCH" not in network._flags:
            return self._fail("This version of the ONNX parser only supports networks with an explicit batch", -1)
        try:
            model = onnx.load_model_from_string(content)
            onnx.checker.check_model(model)
        except Exception:  # of protobuf, and of the checker
            return self._fail("Failed to parse the ONNX model", -1)
        for number, node in enumerate(model.graph.node):
            if node.op_type.startswith(UNKNOWN):
                return self._fail(f"No importer registered for op: {node.op_type}", number)
        weights = {tensor.name for tensor in model.graph.initializer}
        network._inputs = [ITensor(value) for value in model.graph.input if value.name not in weights]
        network._outputs = [ITensor(value) for value in model.graph.output]
        graph = onnx.shape_inference.infer_shapes(model).graph
        tensors = {value.name: ITensor(value) for value in (*graph.value_info, *graph.output)}
        network._layers = [ILayer(node, [tensors[name] for name in node.output if name in tensors])
                           for node in graph.node if node.op_type != "Constant"]
        network._onnx = content
        return True

    def _fail(self, text: str, node: int) -> bool:
        self._errors.append(ParserError(text, node))
        self.log(ERROR, text)
        return False


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: Dict[str, List[Dims]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        three = [Dims(map(int, shape)) for shape in (min, opt, max)]
        if not all(0 < least <= usual <= most for least, usual, most in zip(*three)) or \
                len({len(shape) for shape in three}) != 1:
            raise ValueError("Shape provided for min, opt and max are inconsistent")
        self._shapes[input] = three

    def get_shape(self, input: str) -> List[Dims]:
        return self._shapes.get(input, [])

    def __bool__(self) -> bool:
        return bool(self._shapes)
