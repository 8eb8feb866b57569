"""Run a command on an emulated Ascend machine: python3 -m tests.emulator [options] -- COMMAND ..."""
from __future__ import annotations

import argparse
import json
import sys

from contract.arguments import HelpFormatter
from tests.emulator import CANN, environment
from tests.rehearsal import rehearse

BANNER = """
*** EMULATION *** There is no NPU in this run: atc, npu-smi, ais_bench and acl are programs of tests/emulator, models
*** EMULATION *** run on the CPU in float32, int8 in whole numbers. Accuracy is that of a CPU run, times say nothing
*** EMULATION *** about a card.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m tests.emulator", description=__doc__,
                                     formatter_class=HelpFormatter)
    parser.add_argument("--soc", default="Ascend310P3", help="soc version of the emulated machine")
    parser.add_argument("--devices", type=int, default=1, help="number of its devices")
    parser.add_argument("--cann", default=CANN, help="its CANN release")
    parser.add_argument("--ais_bench", choices=["old", "new", "absent"], default="new", help="its ais_bench package")
    parser.add_argument("--package", default="", help="folder with the real ais_bench package of that generation")
    parser.add_argument("--config", default="{}", help="more fields as JSON: see lib/ascend_emulator/machine.py")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    return rehearse(BANNER, args.command, lambda: environment(
        ais_bench=None if args.ais_bench == "absent" else args.ais_bench, package=args.package, soc=args.soc,
        devices=args.devices, cann=args.cann, **json.loads(args.config)))


if __name__ == "__main__":
    sys.exit(main())
