"""Deal the photos of a data root into parts in random order, and decide by the first of them: python3 -m pose.parts.

    python3 -m pose.parts deal ./data/coco WORK [--detections FILE]
    python3 -m pose.parts decide ./data/coco WORK --reference A.json ... --other B.json ... --output DECISION.json

WORK/part0, WORK/part1, ... are data roots of links to the photos, with the annotations, and the detections, of theirs
alone; after each of them `pose.sequential` may look. `decide` takes the keypoints of as many parts as there are files.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import numpy as np

from contract.arguments import HelpFormatter, parse
from contract.errors import UserError
from contract.files import PathLike, make_folder, read_json, write_json
from pose.annotations import annotations_path, load_annotations, open_photos
from pose.bootstrap import coco_numbers
from pose.matching import load_truth, match_results
from pose.sequential import decide, look_sizes

LISTED = "parts.json"  # in WORK: the ids of the photos of each part
DETECTIONS = "detections.json"


def part_root(work: PathLike, number: int) -> Path:
    return Path(work) / f"part{number}"


def deal(dataroot: Path, work: Path, detections: Optional[Path], seed: int) -> None:
    """The same parts for the same photos and seed. Raises UserError for photos that are not there."""
    annotations, photos = load_annotations(dataroot), open_photos(dataroot)
    order = np.random.default_rng(seed).permutation(sorted(annotations.images)).tolist()
    ends = look_sizes(len(order))
    parts = [order[start:end] for start, end in zip([0, *ends], ends)]
    boxes = read_json(detections, "detections") if detections else []
    for number, ids in enumerate(parts):
        root, chosen = part_root(work, number), set(ids)
        link_photos([photos.path(image) for image in ids], make_folder(root / "val2017"))
        make_folder(annotations_path(root).parent)
        write_json(annotations_path(root), of_photos(annotations.as_coco(), chosen))
        if detections:
            write_json(root / DETECTIONS, [box for box in boxes if box.get("image_id") in chosen])
        link(Path(os.pardir, "models"), root / "models")  # every part runs the models that the first has made
    write_json(work / LISTED, parts)
    print(f"{len(order)} photos in {len(parts)} parts of {', '.join(str(len(ids)) for ids in parts)}")


def of_photos(coco: Dict[str, Any], chosen: Set[int]) -> Dict[str, Any]:
    return {**coco, "images": [image for image in coco["images"] if image["id"] in chosen],
            "annotations": [person for person in coco["annotations"] if person["image_id"] in chosen]}


def link_photos(paths: List[Path], folder: Path) -> None:
    """Links to these alone; those of an earlier run go."""
    for old in folder.iterdir():
        old.unlink()
    for path in paths:
        link(path.resolve(), folder / path.name)


def link(target: Path, place: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(target)


def decide_parts(dataroot: Path, work: Path, reference: List[Path], other: List[Path], output: Path) -> None:
    """Write the `Decision` about the other side's AP, with the APs of both on the photos so far."""
    parts = read_json(work / LISTED, "parts")
    if len(reference) != len(other) or not 0 < len(reference) <= len(parts):
        raise UserError(f"{len(reference)} and {len(other)} keypoints files, expected one of each side for each of the "
                        f"first of {len(parts)} parts")
    images = [image for ids in parts[:len(reference)] for image in ids]
    truth = load_truth(load_annotations(dataroot), images)
    a, b = (match_results(truth, [person for path in paths for person in read_json(path, "keypoints")])
            for paths in (reference, other))
    decision = decide(a, b, sum(map(len, parts)))
    write_json(output, {**dataclasses.asdict(decision), "a": coco_numbers(a)["AP"], "b": coco_numbers(b)["AP"]})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m pose.parts", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="deal | decide")
    dealing, deciding = (commands.add_parser(name, formatter_class=HelpFormatter, help=words) for name, words in (
        ("deal", "make the parts"), ("decide", "whether the APs are within the margin")))
    for one in (dealing, deciding):
        one.add_argument("dataroot", type=Path, help="folder with annotations/ and val2017/")
        one.add_argument("work", type=Path, help="folder of the parts")
    dealing.add_argument("--detections", type=Path, help="boxes to be dealt too")
    dealing.add_argument("--seed", type=int, default=0, help="of the order")
    deciding.add_argument("--reference", type=Path, nargs="+", required=True, help="keypoints.json of each part")
    deciding.add_argument("--other", type=Path, nargs="+", required=True, help="the same of the other side")
    deciding.add_argument("--output", type=Path, required=True, help="JSON file of the decision")
    args = parse(parser, None)
    if args.command == "deal":
        deal(args.dataroot, make_folder(args.work), args.detections, args.seed)
    else:
        decide_parts(args.dataroot, args.work, args.reference, args.other, args.output)


if __name__ == "__main__":
    sys.exit(exit_code(main))
