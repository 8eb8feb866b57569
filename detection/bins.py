"""Photos as the detector sees them, one per bin: what infer.py and bench.py read.

    python3 -m detection.bins ./data/coco/val2017 ./letterboxed --yolo_cfg configs/yolov3-spp.cfg --limit 64

A bin has the photo's name, 000000000139.bin, and holds (3, height, width) float32 RGB from 0 to 1. A whole one is
kept.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import sys
from pathlib import Path
from typing import List, Optional

from contract.arguments import HelpFormatter, at_least, parse
from contract.files import PathLike, make_folder, write_file
from contract.locks import hold
from contract.manifest import bins_in
from contract.pixels import FLOAT32
from contract.progress import Progress
from contract.spec import row_bytes
from detection.blocks import Network
from detection.darknet import read_cfg
from detection.detector import SPP_CFG, find_photographs, read_letterboxed


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m detection.bins", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("images", help="folder of photos named by their ids")
    parser.add_argument("output", type=Path, help="folder for the bins")
    parser.add_argument("--yolo_cfg", default=os.path.relpath(SPP_CFG), help="darknet's .cfg")
    parser.add_argument("--limit", type=at_least(1), help="only the first LIMIT photos, by ascending id")
    return parse(parser, argv)


def write_letterboxed(images: PathLike, output: Path, network: Network, limit: Optional[int] = None) -> None:
    photographs = find_photographs(images)[:limit]
    whole = bins_in(make_folder(output))
    with hold(output):
        for photograph in Progress(photographs, unit="photo", desc="letterbox"):
            name = f"{photograph.image_id:012d}.bin"
            if whole.get(name) != row_bytes(network.input_shape, FLOAT32):
                write_file(output / name, read_letterboxed(photograph, (network.width, network.height)).tensor)
    print(f"{output}: {len(photographs)} bins")


def main() -> None:
    args = parse_args()
    write_letterboxed(args.images, args.output, read_cfg(args.yolo_cfg), args.limit)


if __name__ == "__main__":
    sys.exit(exit_code(main))
