"""What the exporters share: the flags, names and limits of the ONNX files that they write."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Dict, Iterable, List, Optional

from contract.arguments import at_least, parse
from contract.files import PathLike

# IR version that was current with each opset: an older reader refuses a newer one, even if the graph does not need it.
IR_VERSIONS = {11: 6, 13: 7, 17: 8}
MAX_RELATIVE_ERROR = 1e-5  # of the largest value, ONNX Runtime against torch, both float32
# Start of the names of the nodes that read heatmaps in a one-pass model. In float16 they would read rounded values.
DECODING_NODES = "one_pass/decode"
MAX_EMBEDDING_ERROR = 1e-4  # the same of features, where a norm behind the mean of each map multiplies what differs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", help="the .onnx that takes any batch; the others are named after it, ..._bs16.onnx")
    parser.add_argument("--batch", type=at_least(1), nargs="*", default=[],
                        help="batch sizes to make a static file for")
    parser.add_argument("--opset", type=int, choices=sorted(IR_VERSIONS), default=11, help="11 suits every CANN")


def parse_export_args(parser: argparse.ArgumentParser, argv: Optional[List[str]]) -> argparse.Namespace:
    args = parse(parser, argv)
    if not args.output.endswith(".onnx"):
        parser.error(f"the output is {args.output}, expected a name that ends in .onnx")
    return args


def paths_by_batch(output: PathLike, batches: Iterable[int]) -> Dict[Optional[int], Path]:
    """The file of each batch size; None means the one that takes any."""
    output = Path(output)
    return {None: output, **{batch: output.with_name(f"{output.stem}_bs{batch}.onnx") for batch in batches}}
