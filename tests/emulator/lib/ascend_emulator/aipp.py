"""Static AIPP: the config file of `atc --insert_op_conf`, its rules, and what the hardware does with it."""
from __future__ import annotations

import re
from typing import Any, Dict, List

import numpy as np

FORMATS = ("YUV420SP_U8", "XRGB8888_U8", "RGB888_U8", "YUV400_U8")
MODES = ("static", "dynamic")
CHANNELS = range(4)
BOOLEANS = ("crop", "padding", "csc_switch", "rbuv_swap_switch", "ax_swap_switch")
# key -> (lowest, highest) of an integer, of a fraction
INTEGERS = {
    "related_input_rank": (0, 1024), "src_image_size_w": (0, 4096), "src_image_size_h": (0, 4096),
    **{f"load_start_pos_{axis}": (0, 4095) for axis in "wh"}, **{f"crop_size_{axis}": (0, 4096) for axis in "wh"},
    **{f"{side}_padding_size": (0, 32) for side in ("left", "right", "top", "bottom")},
    **{f"matrix_r{row}c{column}": (-32768, 32767) for row in range(3) for column in range(3)},
    **{f"{side}_bias_{channel}": (0, 255) for side in ("input", "output") for channel in range(3)},
    **{f"mean_chn_{channel}": (0, 255) for channel in CHANNELS}}
FRACTIONS = {"padding_value": (-65504, 65504), **{f"min_chn_{channel}": (0, 255) for channel in CHANNELS},
             **{f"var_reci_chn_{channel}": (-65504, 65504) for channel in CHANNELS}}
NAMES = ("aipp_mode", "input_format", "related_input_name")
TOKEN = re.compile(r'\s*(?:#[^\n]*\n?|([A-Za-z_]\w*)|(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|-?\.\d+)|("[^"\n]*")|([{}:;,]))')


class AippError(ValueError):
    """The file breaks a rule; the text is the reason that atc prints with E10052."""


def parse(text: str) -> List[Dict[str, Any]]:
    """The `aipp_op { key : value ... }` blocks of a protobuf text file."""
    tokens = _tokens(text)
    operations: List[Dict[str, Any]] = []
    place = 0
    while place < len(tokens):
        if tokens[place:place + 2] != ["aipp_op", "{"]:
            raise AippError(f"expected 'aipp_op {{', found {' '.join(tokens[place:place + 2])!r}")
        end = tokens.index("}", place) if "}" in tokens[place:] else None
        if end is None:
            raise AippError("aipp_op is not closed by '}'")
        operations.append(_operation([token for token in tokens[place + 2:end] if token not in ",;"]))
        place = end + 1
    if not operations:
        raise AippError("the file has no aipp_op")
    return operations


def _tokens(text: str) -> List[str]:
    tokens, place = [], 0
    text = text.rstrip() + "\n"
    while text[place:].strip():
        match = TOKEN.match(text, place)
        if match is None:
            raise AippError(f"cannot be read at {text[place:place + 20].strip()!r}")
        tokens += [group for group in match.groups() if group]
        place = match.end()
    return tokens


def _operation(tokens: List[str]) -> Dict[str, Any]:
    fields: Dict[str, Any] = {}
    while tokens:
        if len(tokens) < 3 or tokens[1] != ":":
            raise AippError(f"expected 'key : value', found {' '.join(tokens[:3])!r}")
        key, value, tokens = tokens[0], tokens[2].strip('"'), tokens[3:]
        if key in fields:
            raise AippError(f"{key} is given twice")
        fields[key] = _value(key, value)
    _check(fields)
    return fields


def _value(key: str, text: str) -> Any:
    if key in NAMES:
        return text
    if key in BOOLEANS:
        if text not in ("true", "false"):
            raise AippError(f"{key} must be true or false, not {text}")
        return text == "true"
    if key not in INTEGERS and key not in FRACTIONS:
        raise AippError(f"there is no key {key}")
    low, high = INTEGERS.get(key) or FRACTIONS[key]
    if key in INTEGERS and not re.fullmatch(r"-?\d+", text):
        raise AippError(f"{key} must be an integer, not {text}")
    try:
        number = int(text) if key in INTEGERS else float(text)
    except ValueError:
        raise AippError(f"{key} must be a number, not {text}") from None
    if not low <= number <= high:
        raise AippError(f"{key} must be between {low} and {high}, not {text}")
    return number


def _check(fields: Dict[str, Any]) -> None:
    if fields.get("aipp_mode") not in MODES:
        raise AippError(f"aipp_mode must be static or dynamic, not {fields.get('aipp_mode')}")
    if fields["aipp_mode"] == "static" and fields.get("input_format") not in FORMATS:
        raise AippError(f"input_format must be one of {', '.join(FORMATS)}, not {fields.get('input_format')}")
    for axis in "wh":
        if fields.get(f"src_image_size_{axis}", 0) == 1 and axis == "w":
            raise AippError("src_image_size_w must be 0 or between 2 and 4096")
    unsupported = [key for key in ("crop", "padding", "csc_switch", "ax_swap_switch") if fields.get(key)]
    if fields["aipp_mode"] == "dynamic" or fields.get("input_format") != "RGB888_U8" or unsupported:
        raise AippError("the emulator executes static RGB888_U8 without crop, padding and colour conversion")


def normalise(pixels: np.ndarray, fields: Dict[str, Any], arithmetic: str = "float32") -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32: `(pixel - mean_chn - min_chn) * var_reci_chn`, step by step.

    arithmetic float32 keeps the constants as written, so that an ONNX model with the same three operations in front
    gives the same bits; float16 rounds the constants and every step, which is the worst a card may do.
    """
    dtype = np.dtype(arithmetic).type
    if fields.get("rbuv_swap_switch"):
        pixels = pixels[..., ::-1]
    mean, low, scale = (np.array([fields.get(f"{key}_chn_{channel}", default) for channel in range(3)], dtype)
                        for key, default in (("mean", 0), ("min", 0), ("var_reci", 1)))
    values = ((pixels.astype(dtype) - mean) - low) * scale
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)
