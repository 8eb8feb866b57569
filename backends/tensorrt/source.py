"""Checks of the builder's options against the ONNX file, before TensorRT is loaded."""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from contract.errors import UserError
from contract.onnx_file import read_facts

DTYPES = {"FLOAT": "float32", "UINT8": "uint8"}  # of inputs: ONNX's name -> numpy's
Sizes = Tuple[int, int, int]  # smallest, usual and largest batch


class Source(NamedTuple):
    """Of an ONNX file: its one input, with None for a symbolic size, and where its precision is said in the graph."""

    name: str
    shape: Tuple[Optional[int], ...]
    dtype: str
    quantized: bool  # holds QuantizeLinear nodes: int8
    half: bool  # holds float16 weights
    one_pass: bool = False  # holds nodes that find joints in heatmaps
    largest: Optional[float] = None  # magnitude that bins can hold, where the file tells how bytes became its input


def read_source(model: Path) -> Source:
    """Raises UserError when the file is not ONNX or has another number of inputs than one."""
    facts = read_facts(model)
    if facts.dtype not in DTYPES:
        raise UserError(f"{model}: takes {facts.dtype}, expected {' or '.join(DTYPES)}, which bins hold. Convert it "
                        "with its unchanged inputs and outputs (--keep_io_types of ModelOpt)")
    return Source(facts.name, facts.shape, DTYPES[facts.dtype], facts.quantized, facts.half, bool(facts.decoding),
                  largest_input(facts.origin.get("pixel_constants")) if facts.dtype == "FLOAT" else None)


def largest_input(constants: Optional[str]) -> Optional[float]:
    """The largest |(byte - mean_chn - min_chn) * var_reci_chn| of what pth2onnx.py has left in the file; None where it
    has not."""
    try:
        mean, rest, factor = (json.loads(constants or "")[name] for name in ("mean_chn", "min_chn", "var_reci_chn"))
        return max(abs((byte - one - more) * times)
                   for byte in (0, 255) for one, more, times in zip(mean, rest, factor))
    except (KeyError, TypeError, ValueError):
        return None


def choose_sizes(model: Path, source: Source, batch: Optional[int], profile: Optional[str]) -> Sizes:
    """The batches that the engine takes; the three are the same where it takes one."""
    fixed = source.shape[0] if source.shape else None
    if len(source.shape) != 4 or None in source.shape[1:]:
        raise UserError(f"{model}: its input is {source.shape}, expected 4 sizes with only the batch symbolic")
    if profile:
        if not re.fullmatch(r"\d+,\d+,\d+", profile):
            raise UserError(f"--profile {profile}: expected the smallest, usual and largest batch, such as 1,16,64")
        smallest, usual, largest = map(int, profile.split(","))
        if not 1 <= smallest <= usual <= largest:
            raise UserError(f"--profile {profile}: expected three batches in ascending order, such as 1,16,64")
        if fixed:
            raise UserError(f"{model}: its batch is fixed at {fixed}, and --profile needs a symbolic one. "
                            "Give the .onnx that pth2onnx.py writes without _bs")
        return smallest, usual, largest
    if batch is not None and (batch < 1 or fixed not in (None, batch)):
        raise UserError(f"{model}: its batch is {fixed or 'symbolic'}, but --batch is {batch}. "
                        "Export it with pth2onnx.py --batch, or give the .onnx without _bs")
    size = batch or fixed
    if size is None:
        raise UserError(f"{model}: its batch is symbolic. Give --batch 16, or --profile 1,16,64")
    return size, size, size


def describe_sizes(source: Source, sizes: Sizes) -> str:
    """For the engine's name: nothing where the ONNX says it, bs16, or bs1-64."""
    if source.shape[0]:
        return ""
    return f"_bs{sizes[0]}" if sizes[0] == sizes[2] else f"_bs{sizes[0]}-{sizes[2]}"
