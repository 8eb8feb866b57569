"""One data root that AlphaPose and this project both read: the first photos, their people, their detections.

    python3 -m reference.inputs --dataroot ./data/coco --detections detections.json --output ./runs/reference/inputs

AlphaPose takes no limit, and scores all photos that its annotations name.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from contract.arguments import HelpFormatter, at_least
from contract.errors import UserError
from contract.files import make_folder, read_json, remove_file, write_file
from pose.annotations import annotations_path, load_annotations
from pose.coco import PERSON, load_detections
from pose.photos import Photos


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--dataroot", required=True, help="folder with annotations/ and val2017/")
    parser.add_argument("--detections", required=True, help="COCO results JSON with person boxes")
    parser.add_argument("--output", required=True, help="folder for the data root and its detections.json")
    parser.add_argument("--limit", type=at_least(1), help="only the first LIMIT photos, by ascending id")
    return parser.parse_args(argv)


def make_inputs(dataroot: Path, detections_file: Path, output: Path, limit: Optional[int] = None) -> None:
    """Write annotations and detections of the first `limit` photos into `output`, and link val2017 there."""
    annotations = first_photographs(load_annotations(dataroot).as_coco(), limit)
    photos = Photos(dataroot / "val2017", {image["id"]: image for image in annotations["images"]})
    for image in annotations["images"]:
        photos.path(image["id"])  # AlphaPose opens every photo: a UserError names the one that is missing
    people = people_on(annotations["images"], detections_file)
    make_folder(output / "annotations")
    write_file(annotations_path(output), json.dumps(annotations).encode())
    write_file(output / "detections.json", json.dumps(people).encode())
    remove_file(output / "val2017")
    os.symlink((dataroot / "val2017").resolve(), output / "val2017")
    print(f"{len(annotations['images'])} photos, {len(people)} detections in {output}")


def first_photographs(annotations: Dict[str, Any], limit: Optional[int]) -> Dict[str, Any]:
    """The annotations of the first photos. AlphaPose finds a photo by the end of its coco_url."""
    images = sorted(annotations["images"], key=lambda image: image["id"])[:limit]
    ids = {image["id"] for image in images}
    return {**annotations, "images": [{**image, "coco_url": f"val2017/{image['file_name']}"} for image in images],
            "annotations": [person for person in annotations["annotations"] if person["image_id"] in ids]}


def people_on(images: List[Dict[str, Any]], detections_file: Path) -> List[Dict[str, Any]]:
    """The unchanged rows of people on `images`; AlphaPose would take other categories for people."""
    load_detections(detections_file)  # every row has what it needs, or a UserError names it
    ids = {image["id"] for image in images}
    people = [row for row in read_json(detections_file, "detections")
              if row["image_id"] in ids and row.get("category_id", PERSON) == PERSON]
    if not people:
        raise UserError(f"{detections_file}: no person on the {len(ids)} photos asked for. Raise --limit, or take "
                        "other --detections")
    return people


def main() -> None:
    args = parse_args()
    make_inputs(Path(args.dataroot), Path(args.detections), Path(args.output), args.limit)


if __name__ == "__main__":
    sys.exit(exit_code(main))
