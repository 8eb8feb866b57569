"""Checks of atc's options against the ONNX file, the chip and CANN, before atc is run."""
from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ascend import cann
from ascend.soc import family
from contract.errors import UserError
from contract.onnx_file import OnnxFacts, read_facts

NO_BF16 = re.compile(r"Ascend(310$|310P|910(A|B|Pro.|PremiumA)$|610)")
FLOAT_MODES = ("force_fp32", "must_keep_origin_dtype", "origin")  # not for int8
LEAST_GEARS, MOST_GEARS, MOST_GEARS_950, LARGEST_GEAR = 2, 100, 256, 2048  # how many, and how large, atc takes


PIXEL_CONSTANTS = {"mean_chn", "min_chn", "var_reci_chn"}


class Input(NamedTuple):
    """Of an ONNX file: name, shape with None for a symbolic size, whether it takes bytes, and the opset of ai.onnx.

    `pixel_constants` are how bytes become its float32, where pth2onnx.py has left them. `is_int8`: in Huawei's form.
    `facts` are all that was read, `decoding` the names of the nodes that read heatmaps, of a one-pass model."""

    name: str
    shape: Tuple[Optional[int], ...]
    takes_bytes: bool
    opset: int
    pixel_constants: Optional[Dict[str, List[float]]]
    is_int8: bool
    facts: OnnxFacts
    decoding: Tuple[str, ...] = ()


def read_input(model: Path) -> Input:
    """The one input of an ONNX file. Raises UserError when there is not one, or the file is not ONNX."""
    facts = read_facts(model)
    if facts.quantized:
        raise UserError(f"{model}: is int8 by QuantizeLinear, which atc cannot build. python3 -m ascend.quantize "
                        f"{model} {model.stem}_deploy.onnx writes the form that atc takes")
    return Input(facts.name, facts.shape, facts.dtype == "UINT8", facts.opset,
                 read_pixel_constants(model, facts.origin.get("pixel_constants")), facts.deployed, facts,
                 facts.decoding)


def read_pixel_constants(model: Path, text: Optional[str]) -> Optional[Dict[str, List[float]]]:
    """What an ONNX file says, checked before it is written into aipp.cfg: three finite numbers under each name."""
    if not text:
        return None
    try:
        constants = json.loads(text)
        right = constants.keys() == PIXEL_CONSTANTS and all(
            len(values) == 3 and all(type(value) in (int, float) and math.isfinite(value) for value in values)
            for values in constants.values())
    except (ValueError, TypeError, AttributeError, RecursionError):
        right = False
    if not right:
        raise UserError(f"{model}: its pixel_constants are {text[:80]}, expected three numbers each under "
                        f"{', '.join(sorted(PIXEL_CONSTANTS))}. Export it again with pth2onnx.py")
    return constants


def choose_batch(model: Path, shape: Sequence[Optional[int]], batch: Optional[int], gears: Optional[str],
                 soc_version: str) -> List[int]:
    """The batch, or the gears, ascending. Raises UserError for what atc would refuse, or silently misread."""
    if None in shape[1:] or len(shape) != 4:
        raise UserError(f"{model}: its input is {shape}, expected (batch, channels, height, width) with only the batch "
                        "symbolic")
    if gears:
        if not re.fullmatch(r"\d+(,\d+)*", gears):
            raise UserError(f"--gears {gears}: expected batch sizes, such as 1,4,8,16")
        sizes = sorted(set(map(int, gears.split(","))))
        most = MOST_GEARS_950 if family(soc_version) == "950" else MOST_GEARS
        if not LEAST_GEARS <= len(sizes) <= most or not 1 <= sizes[0] <= sizes[-1] <= LARGEST_GEAR:
            raise UserError(f"--gears {gears}: for {soc_version} atc takes {LEAST_GEARS} to {most} sizes of 1 to "
                            f"{LARGEST_GEAR}")
        if shape[0] is not None:
            raise UserError(f"{model}: its batch is fixed at {shape[0]}, and --gears needs a symbolic one. "
                            "Give the .onnx that pth2onnx.py writes without _bs")
        return sizes
    if batch is not None and (batch < 1 or shape[0] not in (None, batch)):
        raise UserError(f"{model}: its batch is fixed at {shape[0]}, but --batch is {batch}. "
                        f"Export it with pth2onnx.py --batch {batch}")
    if batch is None and shape[0] is None:
        raise UserError(f"{model}: its batch is symbolic. Give --batch or --gears")
    return [batch or shape[0]]  # type: ignore[list-item]


def check_int8(model: Path, precision: Optional[str], sizes: Sequence[int]) -> None:
    """Refuse what atc cannot build from a model with AscendQuant nodes, according to AMCT's restrictions."""
    if len(sizes) > 1:
        raise UserError(f"{model}: is int8, which atc builds only for one batch size. Give --batch instead of "
                        "--gears")
    if precision in FLOAT_MODES:
        raise UserError(f"{model}: is int8, and atc does not build that with {precision}. Leave the precision out")


def check_precision(soc_version: str, precision: Optional[str]) -> None:
    if precision and ("bf16" in precision or "bfloat16" in precision) and NO_BF16.match(soc_version):
        raise UserError(f"{precision}: {soc_version} has no bfloat16; 310B, 910B1 to B4, A3 and 950 have. "
                        "Choose a mode of float16 or float32")


def check_opset(model: Path, opset: int, version: Optional[str]) -> None:
    """Refuse what this CANN has no parser for before atc says so as E19010, minutes later."""
    limits = cann.limits(version)
    if limits and not limits.opset[0] <= opset <= limits.opset[1]:
        raise UserError(f"{model}: its opset is {opset}, and CANN {version} takes {limits.opset[0]} to "
                        f"{limits.opset[1]}. Export it with --opset 11, which every CANN takes")
