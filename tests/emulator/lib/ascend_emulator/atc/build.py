"""ONNX -> the emulated .om."""
from __future__ import annotations

import hashlib
import os
from typing import Any, Dict, List, Tuple

from .. import aipp, om
from ..chips import find_chip
from ..machine import machine
from .errors import AtcError
from .flags import OUTPUT_TYPES
from .quantized import check_options, is_quantized, to_integers
from .shapes import Shape, parse_gears, resolve

NEWEST_OPSETS = (("7.0", 18), ("0", 13))  # of ai.onnx, by the CANN release from which it is supported
KERNELS_APART = "8.5"  # the release from which the operators of a chip are a package of their own
# Operators that atc has a parser for: those registered in Huawei's ONNX plugins of canndev at a2f1d9ae6 (21 June 2022),
# all of them for opset 8 to 15, and Constant, which becomes a weight. Later releases have more.
OPERATORS = frozenset("""
Abs Acos Acosh AdaptiveAvgPool2d Add AffineGrid And ArgMax ArgMin AscendAntiQuant AscendDequant AscendDequantS16
AscendQuant AscendRequant AscendRequantS16 Asin Asinh Atan Atanh AveragePool BatchMatMul BatchMultiClassNMS
BatchNormalization BitShift BoundingBoxDecode Cast Ceil Celu Clip Col2im Compress Concat Constant ConstantOfShape Conv
ConvTranspose Cos Cosh CumSum DeformableConv2D DeformableOffsets DepthToSpace Det Div Dropout DynSeqOuter Einsum Elu
EmbeddingBag Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool
GlobalLpPool GlobalMaxPool Greater GroupNormRelu HardSigmoid Hardmax Identity If InstanceNormalization Int8Conv
Int8ConvRelu Int8Dequantize Int8FC Int8GivenIntTensorFill Int8GivenTensorFill Int8Quantize Int8Transpose IsInf IsNaN
LRN LSTM LSTMP LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool MaxRoiPool
MaxUnpool Mean MeanVarianceNormalization Min Mod MovingSumWithSigmoid Mul Multinomial Neg NonMaxSuppression NonZero
Not OneHot Or PRelu PSROIPooling Pad Pow RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range
Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign RoiExtractor Round Scatter ScatterElements ScatterND Selu
Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan
Tanh TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where Xor Yolo YoloPreDetection
YoloV3DetectionOutputV2 YoloV5DetectionOutput YoloxBoundingBoxDecode
""".split())
TYPE_NAMES = {"FP32": "float32", "FP16": "float16", "UINT8": "uint8", "INT8": "int8"}


def read_model(path: str) -> Any:
    import onnx
    try:
        model = onnx.load(path)
        operators = list(model.graph.node)
        if is_quantized(model):
            model = to_integers(model)
        onnx.checker.check_model(model)
    except AtcError:
        raise
    except Exception as error:  # protobuf's and onnx's errors share no base class
        raise AtcError("E10041", value=path, reason=" ".join(str(error).split())[:200]) from None
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if len(versions) != 1:
        raise AtcError("E16005", count=len(versions))
    limit = newest_opset(machine().cann)
    if versions[0] > limit:
        raise unknown(model.graph.node[0], versions[0])
    for node in operators:
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            raise unknown(node, versions[0])
    if not machine().kernels and om.version_key(machine().cann) >= om.version_key(KERNELS_APART):
        node = model.graph.node[0]
        raise AtcError("EZ3003", value=node.name, kind=node.op_type)
    return model


def unknown(node: Any, opset: int) -> AtcError:
    return AtcError("E19010", value=node.name, kind=f"{node.domain or 'ai.onnx'}::{opset}::{node.op_type}")


def newest_opset(cann: str) -> int:
    return next(opset for release, opset in NEWEST_OPSETS if om.version_key(cann) >= om.version_key(release))


def _tensors(values: Any) -> Dict[str, Tuple[str, Shape]]:
    """Name -> (dtype, shape) of graph inputs or outputs."""
    import onnx
    found = {}
    for value in values:
        kind = value.type.tensor_type
        shape = [size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None
                 for size in kind.shape.dim]
        found[value.name] = (onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)
    return found


def read_aipp(path: str, inputs: List[om.Tensor], fp16_nodes: List[str]) -> Dict[str, Dict[str, Any]]:
    """{number of an input: its AIPP}."""
    try:
        with open(path, encoding="utf-8") as file:
            operations = aipp.parse(file.read())
    except (aipp.AippError, UnicodeDecodeError) as error:
        raise AtcError("E10052", value=path, reason=error) from None
    found: Dict[str, Dict[str, Any]] = {}
    for fields in operations:
        rank = fields.get("related_input_rank", 0)
        if rank >= len(inputs) or str(rank) in found:
            raise AtcError("E10052", value=path, reason=f"related_input_rank {rank} is not an input or given twice")
        tensor = inputs[rank]
        if len(tensor.shape) != 4 or tensor.shape[1] != 3:
            raise AtcError("E10052", value=path, reason=f"RGB888_U8 needs an input (N, 3, H, W), not {tensor.shape}")
        for axis, size in (("h", tensor.shape[2]), ("w", tensor.shape[3])):
            if fields.get(f"src_image_size_{axis}", 0) not in (0, size):
                raise AtcError("E10052", value=path, reason=f"src_image_size_{axis} "
                               f"{fields[f'src_image_size_{axis}']} is not the model's {size}")
        if tensor.name in fp16_nodes:
            raise AtcError("E10034", value=tensor.name)
        found[str(rank)] = fields
    return found


def _as_fed(tensor: om.Tensor) -> om.Tensor:
    """What the host supplies for an input with AIPP: NHWC bytes."""
    batch, channels, height, width = tensor.shape
    return om.Tensor(tensor.name, "uint8", (batch, height, width, channels), om.NHWC)


def output_types(text: str, names: List[str]) -> Dict[str, str]:
    """`FP16`, or `node:0:FP16;...`, -> {output: dtype}; nothing for outputs that keep theirs."""
    if text in OUTPUT_TYPES:
        return dict.fromkeys(names, TYPE_NAMES[text])
    found = {}
    for part in text.split(";"):
        node, _, rest = part.partition(":")
        index, _, kind = rest.partition(":")
        if kind not in OUTPUT_TYPES or not index.isdigit():
            raise AtcError("E10001", value=text, flag="output_type", reason=f"it must be one of "
                           f"{', '.join(OUTPUT_TYPES)}, or node:index:type")
        matching = [name for name in names if name.split(":")[0] == node]
        if not matching:
            raise AtcError("E10016", value=node, flag="output_type")
        found.update(dict.fromkeys(matching, TYPE_NAMES[kind]))
    return found


def _om_outputs(graph: Any, values: Dict[str, str], batch: int) -> Tuple[List[str], List[om.Tensor]]:
    """Names in the ONNX, and the tensors of the .om, which are called node:index:name."""
    producers = {name: (node.name or node.op_type, index) for node in graph.node
                 for index, name in enumerate(node.output)}
    known = _tensors(graph.output)
    names = list(known)
    if "out_nodes" in values:
        chosen = [part.rpartition(":")[0] for part in values["out_nodes"].split(";")]
        for node in chosen:
            if node not in [producers[name][0] for name in names]:
                raise AtcError("E10016", value=node, flag="out_nodes")
        names = [name for name in names if producers[name][0] in chosen]
    labels = {name: "{}:{}:{}".format(*producers.get(name, (name, 0)), name) for name in names}
    types = output_types(values["output_type"], list(labels.values())) if "output_type" in values else {}
    tensors = []
    for name in names:
        dtype, shape = known[name]
        sizes = tuple(batch if index == 0 and size is None else size for index, size in enumerate(shape))
        tensors.append(om.Tensor(labels[name], types.get(labels[name], dtype), sizes, om.ND))
    return names, tensors


def build(values: Dict[str, str], command: str) -> bytes:
    """The content of the .om."""
    model = read_model(values["model"])
    check_options(model, values)
    initializers = {tensor.name for tensor in model.graph.initializer}
    declared = _tensors([value for value in model.graph.input if value.name not in initializers])
    gears = parse_gears(values.get("dynamic_batch_size"), find_chip(values["soc_version"]).layout)
    shapes = resolve({name: shape for name, (_, shape) in declared.items()}, values.get("input_shape"), gears)
    form = {"NHWC": om.NHWC, "ND": om.ND}.get(values.get("input_format", "NCHW"), om.NCHW)
    fp16_nodes = values.get("input_fp16_nodes", "").split(";") if "input_fp16_nodes" in values else []
    for name in fp16_nodes:
        if name not in declared:
            raise AtcError("E10016", value=name, flag="input_fp16_nodes")
    inputs = [om.Tensor(name, "float16" if name in fp16_nodes else dtype, shapes[name], form)
              for name, (dtype, _) in declared.items()]
    pixels = read_aipp(values["insert_op_conf"], inputs, fp16_nodes) if "insert_op_conf" in values else {}
    inputs = [_as_fed(tensor) if str(number) in pixels else tensor for number, tensor in enumerate(inputs)]
    batch = inputs[0].shape[0] if inputs and inputs[0].shape else 1
    names, outputs = _om_outputs(model.graph, values, batch)
    data = model.SerializeToString()
    with open(values["model"], "rb") as file:
        source = hashlib.sha256(file.read()).hexdigest()
    activations = sum(tensor.nbytes(max(gears, default=1)) for tensor in (*inputs, *outputs))
    facts = {"soc": values["soc_version"], "cann": machine().cann, "command": command, "gears": gears,
             "inputs": inputs, "outputs": outputs, "onnx_outputs": names, "aipp": pixels,
             "precision": values.get("precision_mode_v2", values.get("precision_mode", "force_fp16")),
             "onnx_sha256": source, "name": os.path.basename(values["output"]), "weight_size": len(data),
             "work_size": 4 * activations}
    return om.pack(facts, data)
