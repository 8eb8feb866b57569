"""Whether TensorRT can use this machine's NVIDIA GPUs: python3 -m backends.tensorrt.check --precision fp16"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from typing import List, Optional

from backends.tensorrt import bindings, cuda
from backends.tensorrt.calibration_table import version_of
from backends.tensorrt.precision import PRECISIONS, abilities_of, abilities_of_version, check_precision
from backends.tensorrt.trtexec_build import describe_machine
from contract.arguments import HelpFormatter
from contract.errors import UserError


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.tensorrt.check", description=__doc__,
                                     formatter_class=HelpFormatter)
    parser.add_argument("--device", default="0", help="device id, or several, such as 0,1")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16", help="precision of the engines to build")
    parser.add_argument("--trtexec", action="store_true", help="with trtexec alone, without Python packages")
    return parser.parse_args(argv)


def check_trtexec(device: str, precision: str) -> None:
    if "," in device:
        raise UserError(f"--device {device}: trtexec runs on one GPU")
    machine = describe_machine(cuda.parse_device(device))
    check_precision(abilities_of_version(version_of(machine["tensorrt"])), precision)
    print(f"trtexec of TensorRT {machine['tensorrt']}, {machine['gpu']}")


def main() -> None:
    args = parse_args()
    try:
        if args.trtexec:
            return check_trtexec(args.device, args.precision)
        tensorrt = bindings.load()
        for device in args.device.split(","):
            cuda.open_device(cuda.parse_device(device))
        check_precision(abilities_of(tensorrt), args.precision)
    except UserError as error:
        raise UserError(f"no NVIDIA GPU can be used with tensorrt at {args.precision}: {error}. The target cpu needs "
                        "none") from None


if __name__ == "__main__":
    sys.exit(exit_code(main))
