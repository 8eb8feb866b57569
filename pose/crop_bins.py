"""Bins of pictures that are already crops, one per bin: for int8 calibration with a given list of crops.

    python3 -m pose.crop_bins ./crops ./calib_data --list calib_set.txt --mean 0 --std 1

Each picture is resized to the network's input, bilinear, whatever its shape. Names in the list are separated by blanks
or line ends; without a list every picture of the folder is taken, by name.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import cv2

from contract.arguments import DEFAULT_CONFIG, parse
from contract.errors import UserError
from contract.files import make_folder, write_file
from contract.locks import hold
from contract.manifest import MANIFEST, UNFINISHED, bins_in, remove_bins
from contract.progress import Progress
from pose.crops import Normalizer
from pose.photos import Photos, read_photograph
from pose.spec import PoseSpec, load_spec

CHANNELS = 3


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m pose.crop_bins", description=__doc__.split("\n")[0])
    parser.add_argument("pictures", type=Path, help="folder of crops, JPEG or PNG")
    parser.add_argument("output", type=Path, help="folder for the bins")
    parser.add_argument("--list", type=Path, metavar="FILE", help="names of pictures in the folder, separated by "
                        "blanks or line ends, such as calib_set.txt (default: every picture)")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="config of the model (default: %(default)s)")
    parser.add_argument("--mean", type=float, nargs="+", metavar="M", help="one number, or three for R, G, B, that is "
                        "subtracted from value / 255 (default: that of --cfg)")
    parser.add_argument("--std", type=float, nargs="+", metavar="S", help="divides what is left, in the same way "
                        "(default: that of --cfg)")
    parser.add_argument("--replace", action="store_true", help="remove the bins that are there")
    args = parse(parser, argv)
    for name in ("mean", "std"):
        values = getattr(args, name)
        if values is not None and len(values) not in (1, CHANNELS):
            parser.error(f"--{name}: {len(values)} numbers, expected 1 or {CHANNELS}")
    if 0 in (args.std or ()):
        parser.error("--std is 0, expected a number to divide by")
    return args


def listed(folder: Path, list_file: Optional[Path]) -> List[Path]:
    """The pictures, in the order of the list, or by name."""
    if list_file is None:
        return Photos(folder).files
    try:
        names = list_file.read_text(encoding="utf-8-sig").split()
    except FileNotFoundError:
        raise UserError(f"{list_file}: no such list of pictures") from None
    except UnicodeDecodeError:
        raise UserError(f"{list_file}: not a list of names: it holds more than text in UTF-8") from None
    return [folder / name for name in names]


def write_crop_bins(pictures: Sequence[Path], output: Path, spec: PoseSpec, replace: bool = False) -> None:
    """(3, H, W) float32 bins of `pictures`, named by their place, for the network of `spec`."""
    height, width = spec.input_size
    normalize = Normalizer(spec.mean, spec.std)
    with hold(make_folder(output)):
        if bins_in(output) and not replace:
            raise UserError(f"{output}: holds bins already. Name another folder, or let --replace remove them")
        remove_bins(output, MANIFEST, UNFINISHED)
        for number, picture in enumerate(Progress(pictures, unit="picture", desc="resize")):
            crop = cv2.resize(read_photograph(picture), (width, height), interpolation=cv2.INTER_LINEAR)
            write_file(output / f"{number:012d}.bin", normalize(crop))
    print(f"{output}: {len(pictures)} bins")


def for_rgb(values: Sequence[float]) -> Tuple[float, float, float]:
    """One number stands for all three."""
    red, green, blue = tuple(values) * (CHANNELS // len(values))
    return red, green, blue


def main() -> None:
    args = parse_args()
    spec, pictures = load_spec(args.cfg), listed(args.pictures, args.list)
    spec = dataclasses.replace(spec, mean=for_rgb(args.mean or spec.mean), std=for_rgb(args.std or spec.std))
    if not pictures:
        raise UserError(f"{args.list or args.pictures}: names no picture")
    write_crop_bins(pictures, args.output, spec, args.replace)


if __name__ == "__main__":
    sys.exit(exit_code(main))
