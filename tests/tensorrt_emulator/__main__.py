"""Run a command on an emulated NVIDIA machine: python3 -m tests.tensorrt_emulator [options] -- COMMAND ..."""
from __future__ import annotations

import argparse
import json
import sys

from contract.arguments import HelpFormatter
from tests.rehearsal import rehearse
from tests.tensorrt_emulator import environment

BANNER = """
*** EMULATION *** There is no GPU in this run: tensorrt, cuda-python and trtexec are of tests/tensorrt_emulator, engines
*** EMULATION *** run on the CPU in float32. Accuracy is that of a CPU run, times say nothing about a GPU.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m tests.tensorrt_emulator", description=__doc__,
                                     formatter_class=HelpFormatter)
    parser.add_argument("--tensorrt", default="10.3.0", help="version of the emulated TensorRT: 8.6.1, 10.x.y, 11.x.y")
    parser.add_argument("--devices", type=int, default=1, help="number of GPUs of the emulated machine")
    parser.add_argument("--trtexec", action="store_true", help="a machine with trtexec and without Python packages")
    parser.add_argument("--config", default="{}", help="more fields as JSON: see lib/nvidia_emulator/machine.py")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    return rehearse(BANNER, args.command, lambda: environment(tensorrt=args.tensorrt, devices=args.devices,
                                                              trtexec=args.trtexec, **json.loads(args.config)))


if __name__ == "__main__":
    sys.exit(main())
