"""How each precision is requested from each TensorRT, by its abilities and not by its version number.

Up to 10 a builder flag lets TensorRT choose float16 for each layer, and a calibrator finds the ranges of int8. 11 has
neither: there, and wherever a graph says its own precision, the network is strongly typed.
"""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Tuple

from backends.tensorrt.calibration_table import Version
from backends.tensorrt.source import Source
from contract.errors import UserError
from contract.export import DECODING_NODES
from contract.files import make_folder
from contract.workers import as_typed, describe_exit, run_together

PRECISIONS = ("fp32", "fp16", "int8")


class Abilities(NamedTuple):
    """Of a TensorRT: float16 by a flag, networks whose graph says the precision, int8 by a calibrator."""

    half_flag: bool
    typed_networks: bool
    calibrators: bool


class Recipe(NamedTuple):
    """`flags` are of BuilderFlag; `convert` asks for AutoCast before the build."""

    flags: Tuple[str, ...] = ()
    typed: bool = False
    calibrate: bool = False
    convert: bool = False


def abilities_of(tensorrt: Any) -> Abilities:
    return Abilities(hasattr(tensorrt.BuilderFlag, "FP16"),
                     hasattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"),
                     hasattr(tensorrt, "IInt8EntropyCalibrator2"))


def abilities_of_version(version: Version) -> Abilities:
    """The same of a trtexec, which can only be asked for its version."""
    return Abilities(version < (11, 0, 0), version >= (9, 1, 0), version < (11, 0, 0))


def choose_recipe(model: Path, source: Source, precision: str, can: Abilities) -> Recipe:
    """The recipe. Raises UserError if graph, precision and TensorRT do not go together."""
    if source.quantized and precision != "int8":
        raise UserError(f"{model}: holds QuantizeLinear, so it is int8, but --precision is {precision}. Give "
                        "--precision int8, or the .onnx before it was quantized")
    if source.half and precision == "fp32":
        raise UserError(f"{model}: holds float16 weights, but --precision is fp32. Give --precision fp16, or the .onnx "
                        "before it was converted")
    if precision == "fp32":
        return Recipe()
    if can.typed_networks and (source.quantized or source.half and precision == "fp16"):
        return Recipe(typed=True)
    if precision == "fp16":
        return Recipe(flags=("FP16",)) if can.half_flag else Recipe(typed=True, convert=True)
    if source.dtype == "uint8" and can.calibrators and not source.quantized:
        raise UserError(f"{model}: takes uint8 bins, and calibration on them has not been verified on a GPU. Build "
                        "int8 from the .onnx of float32 bins, or from one with QuantizeLinear, whose Cast stays "
                        "outside")
    if source.quantized or can.calibrators:
        return Recipe(flags=("INT8", "FP16"), calibrate=not source.quantized)
    raise UserError(f"{model}: this TensorRT builds int8 only from a graph with QuantizeLinear. Quantize it "
                    f"first: python3 quantize.py {model} --target tensorrt --input BINS")


def check_precision(can: Abilities, precision: str) -> None:
    """Raises UserError if this TensorRT needs more than a float32 ONNX for `precision`, and it is missing."""
    if precision == "fp16" and not can.half_flag:
        check_autocast(Path("MODEL.onnx"))


def autocast_command(model: Path, output: Path, one_pass: bool = False) -> List[str]:
    """ModelOpt's converter to float16, with float32 inputs and outputs, so that the same bins serve. Nodes that find
    joints in the model stay float32."""
    keep = ["--nodes_to_exclude", f"{DECODING_NODES}.*"] if one_pass else []
    return ["python3", "-m", "modelopt.onnx.autocast", "--onnx_path", str(model), "--output_path", str(output),
            "--low_precision_type", "fp16", "--keep_io_types", *keep]


def check_autocast(model: Path) -> None:
    """Raises UserError, with the install command, if ModelOpt is not installed."""
    if importlib.util.find_spec("modelopt") is None:
        command = as_typed(autocast_command(model, model.with_suffix(".fp16.onnx")))
        raise UserError("this TensorRT builds float16 only from a graph in float16, and the converter is not "
                        f"installed. pip install nvidia-modelopt[onnx], or run elsewhere: {command}, then build that "
                        "file")


def autocast(model: Path, folder: Path, one_pass: bool) -> Path:
    """A float16 twin of `model` in `folder`."""
    output = make_folder(folder) / f"{model.stem}.fp16.onnx"
    command = autocast_command(model, output, one_pass)
    print(as_typed(command), flush=True)
    code = run_together({"autocast": [sys.executable, *command[1:]]})["autocast"]
    if code or not output.exists():
        raise UserError(f"AutoCast {describe_exit(code)} and left no {output}. Read what it printed above")
    return output
