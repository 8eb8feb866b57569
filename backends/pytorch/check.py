"""Whether PyTorch can use this machine's NVIDIA GPUs: python3 -m backends.pytorch.check --device 0"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from typing import List, Optional

from contract.arguments import HelpFormatter
from contract.errors import UserError


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.pytorch.check", description=__doc__,
                                     formatter_class=HelpFormatter)
    parser.add_argument("--device", default="0", help="device id, or several, such as 0,1")
    parser.add_argument("--precision", default="fp16", help="shown in the message")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    import torch

    try:
        for device in args.device.split(","):
            torch.zeros(1, device=f"cuda:{device}")
    except (AssertionError, RuntimeError) as error:  # torch without CUDA, no driver, no such device
        raise UserError(f"no NVIDIA GPU can be used with pytorch at {args.precision}: {str(error).splitlines()[0]}. "
                        "The target cpu needs none") from None


if __name__ == "__main__":
    sys.exit(exit_code(main))
