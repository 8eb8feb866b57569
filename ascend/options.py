"""The pyACL backend: which files it runs, which packages it needs, and what atc's words for a precision mean."""
from __future__ import annotations

from contract.room import FP16, FP32, INT8, MIXED, Room

ROOM = Room(
    packages={"acl": "acl"},
    install="source the set_env.sh of CANN, which brings it",
    suffixes=(".om",),
    # --precision_mode and --precision_mode_v2, and int8, which the ONNX file says. What keeps the types of the file
    # keeps float32; force_fp32 gives convolutions float16 to multiply.
    words={"force_fp16": FP16, "force_fp32": MIXED, "cube_fp16in_fp32out": MIXED, "allow_fp32_to_fp16": MIXED,
           "must_keep_origin_dtype": FP32, "allow_mix_precision": MIXED, "allow_mix_precision_fp16": MIXED,
           "allow_mix_precision_bf16": MIXED, "allow_fp32_to_bf16": MIXED, "fp16": FP16, "origin": FP32,
           "mixed_float16": MIXED, "mixed_bfloat16": MIXED, "int8": INT8},
)
