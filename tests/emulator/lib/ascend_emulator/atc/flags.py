"""The command line of atc: which parameters there are, which values they take, which exclude each other."""
from __future__ import annotations

import sys
from typing import Dict, List, NoReturn

from ..chips import find_chip
from .errors import AtcError

PRECISION_MODES = ("force_fp16", "force_fp32", "cube_fp16in_fp32out", "allow_fp32_to_fp16", "must_keep_origin_dtype",
                   "allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16",
                   "allow_fp32_to_bf16")
PRECISION_MODES_V2 = ("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "mixed_hif8",
                      "cube_hif8")
CHOICES = {
    "mode": ("0", "1", "3", "5", "6", "30"), "framework": ("0", "1", "3", "5"), "input_format": ("NCHW", "NHWC", "ND"),
    "log": ("debug", "info", "warning", "error", "null"), "enable_small_channel": ("0", "1"),
    "precision_mode": PRECISION_MODES, "precision_mode_v2": PRECISION_MODES_V2,
    "buffer_optimize": ("l2_optimize", "l1_optimize", "off_optimize", "l1_and_l2_optimize"),
    "op_compiler_cache_mode": ("disable", "enable", "force"), "op_select_implmode": (
        "high_precision", "high_performance", "high_precision_for_all", "high_performance_for_all"),
    "display_model_info": ("0", "1"), "deterministic": ("0", "1"), "external_weight": ("0", "1"),
    "virtual_type": ("0", "1"), "op_debug_level": ("0", "1", "2", "3", "4")}
FILES = ("model", "weight", "insert_op_conf", "keep_dtype", "modify_mixlist", "customize_dtypes", "op_precision_mode",
         "fusion_switch_file", "om")  # must exist where given
FREE = ("output", "input_shape", "input_shape_range", "dynamic_batch_size", "dynamic_image_size", "dynamic_dims",
        "soc_version", "output_type", "out_nodes", "input_fp16_nodes", "op_compiler_cache_dir", "auto_tune_mode",
        "op_bank_path", "mdl_bank_path", "debug_dir", "check_report", "host_env_os", "host_env_cpu", "json",
        "optypelist_for_implmode", "core_type", "aicore_num", "compression_optimize_conf", "sparsity", "singleop",
        "out_fp16_nodes", "is_output_adjust_hw_layout", "is_input_adjust_hw_layout", "enable_single_stream",
        "tiling_schedule_optimize", "ac_parallel_enable", "status_check", "dump_mode", "op_name_map",
        "atomic_clean_policy", "save_original_model", "jit_compile", "enable_compress_weight", "compress_weight_conf")
FLAGS = (*CHOICES, *FILES, *FREE)
DYNAMIC = ("dynamic_image_size", "dynamic_dims", "input_shape_range")  # each excludes dynamic_batch_size
OUTPUT_TYPES = ("FP32", "FP16", "UINT8", "INT8")


def stop(text: str) -> NoReturn:
    """An unknown parameter ends atc before it starts to work."""
    print(f"ERROR: {text}", file=sys.stderr)
    sys.exit(1)


def split(argv: List[str]) -> Dict[str, str]:
    """`--name=value` and `--name value` -> {name: value}."""
    values: Dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            stop(f"unexpected argument '{word}'")
        name, equals, value = word.lstrip("-").partition("=")
        if name not in FLAGS:
            stop(f"unknown command line flag '{name}'")
        if not equals:
            value = next(words, None)
            if value is None:
                stop(f"flag '--{name}' is missing its argument")
        values[name] = value.strip('"') if equals else value
    return values


def check(values: Dict[str, str]) -> None:
    """The rules that need no model; raises AtcError for the first that is broken."""
    for name, value in values.items():
        if value == "":
            raise AtcError("E10004", flag=name)
    for name, allowed in CHOICES.items():
        if name in values and values[name] not in allowed:
            raise AtcError("E10001", value=values[name], flag=name, reason=f"it must be one of {', '.join(allowed)}")
    if values.get("mode", "0") in ("0", "3", "30"):
        _check_build(values)


def _check_build(values: Dict[str, str]) -> None:
    if "framework" not in values:
        raise AtcError("E10007")
    for name in ("model", "output", "soc_version"):
        if name not in values:
            raise AtcError("E10054", flag=name)
    soc = values["soc_version"]
    if find_chip(soc) is None:
        raise AtcError("E10001", value=soc, flag="soc_version", reason="it is not a soc version that is supported")
    if values["framework"] != "5":
        raise AtcError("E10001", value=values["framework"], flag="framework", reason="the emulator builds ONNX (5)")
    _check_precision(values, find_chip(soc).bf16)
    if "dynamic_batch_size" in values:
        for name in DYNAMIC:
            if name in values:
                raise AtcError("E10045", flag=name)
    if "dynamic_dims" in values and "insert_op_conf" in values:
        raise AtcError("E10056")
    for name in DYNAMIC:
        if name in values:
            raise AtcError("E10001", value=values[name], flag=name, reason="the emulator has only batch gears")
    if "insert_op_conf" in values and values.get("input_format") == "ND":
        raise AtcError("E10001", value="ND", flag="input_format", reason="AIPP needs NCHW or NHWC")


def _check_precision(values: Dict[str, str], bf16: bool) -> None:
    if "precision_mode" in values and "precision_mode_v2" in values:
        raise AtcError("E10001", value=values["precision_mode_v2"], flag="precision_mode_v2",
                       reason="precision_mode is given too")
    for name in ("precision_mode", "precision_mode_v2"):
        value = values.get(name, "")
        if ("bf16" in value or "bfloat16" in value or "hif8" in value) and (not bf16 or "hif8" in value):
            raise AtcError("E10001", value=value, flag=name, reason=f"{values['soc_version']} does not have it")
