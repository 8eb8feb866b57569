"""Whether TensorRT can use this machine's NVIDIA GPUs: python3 -m backends.tensorrt.check --precision fp16"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from typing import List, Optional

from backends.tensorrt import bindings, cuda
from backends.tensorrt.precision import PRECISIONS, check_precision
from contract.arguments import HelpFormatter
from contract.errors import UserError


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.tensorrt.check", description=__doc__,
                                     formatter_class=HelpFormatter)
    parser.add_argument("--device", default="0", help="device id, or several, such as 0,1")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16", help="precision of the engines to build")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    try:
        tensorrt = bindings.load()
        for device in args.device.split(","):
            cuda.open_device(cuda.parse_device(device))
        check_precision(tensorrt, args.precision)
    except UserError as error:
        raise UserError(f"no NVIDIA GPU can be used with tensorrt at {args.precision}: {error}. The target cpu needs "
                        "none") from None


if __name__ == "__main__":
    sys.exit(exit_code(main))
