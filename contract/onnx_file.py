"""Reading an ONNX file that somebody else may have made."""
from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from contract.errors import UserError
from contract.export import DECODING_NODES
from contract.files import PathLike, read_json, sha256_of_file, sha256_of_rows, write_json
from contract.packages import not_importable

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}
ASCEND_QUANT = "AscendQuant"
FACTS = ".facts.json"  # appended to an ONNX file's name: what a Python without the package onnx can know of it


class OnnxFacts(NamedTuple):
    """Of an ONNX file of one input: its name, its shape with None for a symbolic size, ONNX's word for its type, the
    opset of ai.onnx, what `write_origin` left, and where the graph says its precision."""

    name: str
    shape: Tuple[Optional[int], ...]
    dtype: str
    opset: int
    origin: Dict[str, str]
    quantized: bool  # holds QuantizeLinear nodes: int8
    half: bool  # holds float16 weights
    deployed: bool = False  # holds AscendQuant nodes: int8 in the form that atc takes
    decoding: Tuple[str, ...] = ()  # names of the nodes that read heatmaps, of a one-pass model
    operators: Sequence[str] = ()  # each once, as DOMAIN::NAME where it is not ai.onnx's; DepthToSpace with its mode


def read_facts(path: PathLike) -> OnnxFacts:
    """Raises UserError as `load_onnx`, and for another number of inputs. Where Python has no onnx, as on a server,
    what `save_facts` has left beside the file."""
    if not_importable({"onnx": "onnx"}) and os.path.exists(f"{os.fspath(path)}{FACTS}"):
        saved = read_json(f"{os.fspath(path)}{FACTS}", "facts of an ONNX")
        if saved.pop("sha256") != sha256_of_model(path):
            raise UserError(f"{path}: is not the file that {path}{FACTS} was written for. Copy both again")
        return OnnxFacts(**{**saved, "shape": tuple(saved["shape"]), "decoding": tuple(saved.get("decoding", ()))})
    from onnx import TensorProto

    model = load_onnx(path, weights=False)
    source = only_input(model, path)
    tensor = source.type.tensor_type
    return OnnxFacts(source.name, tuple(size.dim_value or None for size in tensor.shape.dim),
                     TensorProto.DataType.Name(tensor.elem_type), opset_of(model), origin_of(model),
                     any(node.op_type in QUANTIZERS for node in model.graph.node),
                     any(weights.data_type == TensorProto.FLOAT16 for weights in model.graph.initializer),
                     any(node.op_type == ASCEND_QUANT for node in model.graph.node),
                     tuple(node.name for node in model.graph.node if node.name.startswith(DECODING_NODES) and
                           node.op_type != "Constant"),
                     sorted({_operator(node) for node in model.graph.node}))


def _operator(node: NodeProto) -> str:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}::"
    modes = [attribute.s.decode(errors="replace") for attribute in node.attribute if attribute.name == "mode"]
    return f"{domain}{node.op_type}" + (f" {(modes or ['DCR'])[0]}" if node.op_type == "DepthToSpace" else "")


def save_facts(path: PathLike) -> Path:
    """Write what `read_facts` gives beside an ONNX file."""
    output = Path(f"{os.fspath(path)}{FACTS}")
    write_json(output, {"sha256": sha256_of_model(path), **read_facts(path)._asdict()})
    return output


def load_onnx(path: PathLike, weights: bool = True) -> ModelProto:
    """Raises UserError when the file is not there, not ONNX, or was exported in training mode. `weights` False leaves
    those in files beside it."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=weights)
    except FileNotFoundError:
        raise UserError(f"{path}: no such ONNX file. pth2onnx.py makes it") from None
    except Exception as error:  # protobuf's errors have no public base class
        raise UserError(f"{path}: not an ONNX file, or damaged ({' '.join(str(error).split())}). "
                        "Export it again") from None
    refuse_training_mode(model, path)
    return model


def refuse_training_mode(model: ModelProto, path: PathLike) -> None:
    """A network that is still being trained gives numbers that depend on the batch, or on chance."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    constants = {node.output[0]: attribute.t for node in nodes if node.op_type == "Constant"
                 for attribute in node.attribute if attribute.name == "value"}
    constants.update((tensor.name, tensor) for tensor in model.graph.initializer)
    opset = opset_of(model)
    for node in nodes:
        settings = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type == "BatchNormalization":
            trains = settings.get("training_mode", 0) or len(list(filter(None, node.output))) > 1
        elif node.op_type == "Dropout":  # up to opset 6 an attribute says it, then nothing, from 12 on an input
            switch = constants.get(node.input[2]) if len(node.input) > 2 else None
            trains = any(switch.raw_data or switch.int32_data) if switch is not None else \
                opset < 7 and not settings.get("is_test", 0)
        else:
            trains = False
        if trains:
            raise UserError(f"{path}: {node.op_type} {node.name or node.output[0]} is in training mode, so its numbers "
                            "depend on the batch or on chance. Export it again after network.eval()")


def sha256_of_model(path: PathLike) -> str:
    """The identity of a model file. For an ONNX file, which may keep weights in files beside it, it covers those too.

    Raises UserError where such a file is missing, or lies outside the model's folder.
    """
    digest = sha256_of_file(path)
    names = sorted(_external_files(path)) if os.fspath(path).lower().endswith(".onnx") else []
    return sha256_of_rows([(digest,), *((name, sha256_of_file(_beside(path, name))) for name in names)]) if names \
        else digest


def files_of_onnx(path: PathLike) -> List[Path]:
    """An ONNX file and the files beside it that hold its weights. Raises UserError as `sha256_of_model`."""
    return [Path(path), *(_beside(path, name) for name in sorted(_external_files(path)))]


def _external_files(path: PathLike) -> Set[str]:
    """The names that an ONNX file gives for its weights, in subgraphs too, read from its bytes: the card's server has
    no onnx package. Each is a protobuf entry of the key "location" and a value: field 2, its length, its bytes."""
    names: Set[str] = set()
    if not os.path.getsize(path):
        return names
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in re.finditer(rb"\n\x08location\x12([\x80-\xff]*[\x00-\x7f])", content):
            length = sum((byte & 0x7f) << 7 * place for place, byte in enumerate(match.group(1)[:5]))
            names.add(content[match.end():match.end() + length].decode(errors="surrogateescape"))
    return names


def _beside(path: PathLike, name: str) -> Path:
    weights = Path(path).parent / name
    if os.path.isabs(name) or ".." in Path(name).parts:
        raise UserError(f"{path}: names weights outside its folder ({name}). Export it again")
    if not os.path.isfile(weights):
        raise UserError(f"{path}: its weights are in {weights}, and no such file is there. Copy it too, or export the "
                        "model again")
    return weights


def names_of_tensors(model: ModelProto) -> Set[str]:
    """Everything that a node reads or makes."""
    return {name for node in model.graph.node for name in (*node.input, *node.output)}


def only_input(model: ModelProto, path: PathLike) -> ValueInfoProto:
    """The one input, which old files list beside the weights. Raises UserError when there is not one."""
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    if len(inputs) != 1:
        raise UserError(f"{path}: expected one input, got {', '.join(value.name for value in inputs) or 'none'}")
    return inputs[0]


def opset_of(model: ModelProto) -> int:
    """Of ai.onnx; 0 where the file does not say."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def write_origin(model: ModelProto, origin: Dict[str, str]) -> None:
    """Let the file tell what it was made from, in place of what tools have left there."""
    del model.metadata_props[:]
    for key, value in origin.items():
        model.metadata_props.add(key=key, value=value)


def origin_of(model: ModelProto) -> Dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def read_origin(path: PathLike) -> Optional[Dict[str, str]]:
    """What `write_origin` left in a file; None where it is not there, cannot be read or says nothing."""
    try:
        model = load_onnx(path, weights=False) if os.path.exists(path) else None
    except UserError:  # it is made anew
        return None
    return origin_of(model) or None if model else None
