"""Turn person boxes on COCO photos into the tensors that a pose network takes, normal and mirrored.

    python3 preprocess.py --dataroot ./data/coco --output ./prep_data --output_flip ./prep_data_flip

One .bin per person, RGB, float32 (3, 256, 192) or with --dtype uint8 (256, 192, 3), in the order of the detections
file. A manifest beside them says which person each bin shows. After an interruption, run the same command again: it
continues.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Optional

import cv2
import numpy as np

from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least, parse
from contract.bins import BinFolder, RowWriter
from contract.errors import UserError, note
from contract.files import make_folder, read_json, sha256_of_file, sha256_of_rows
from contract.locks import hold, reading
from contract.manifest import Manifest
from contract.memory import keep_freed_memory
from contract.pixels import DTYPES, FLOAT32, UINT8
from contract.progress import Progress
from contract.records import EMULATED, is_emulated, read_record
from pose.annotations import annotations_path, ground_truth_boxes, load_annotations
from pose.coco import CORNERS, PERSON, Detections, are_corners, load_detections
from pose.crops import Normalizer, crop_person, mirror, opencv_release
from pose.geometry import GEOMETRIES
from pose.people import DETECTED, GROUND_TRUTH, build_manifest
from pose.photos import Photos, open_photos
from pose.spec import PoseSpec, load_spec

WEIGHTS = ("./models/yolov3-spp.weights", "AlphaPose/detector/yolo/data/yolov3-spp.weights")  # ours, and a clone's


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--dataroot", default="./data/coco", help="folder with annotations/ and val2017/")
    parser.add_argument("--images", help="folder of photos, in place of DATAROOT/val2017")
    parser.add_argument("--annotations", help="annotations file, in place of the one in DATAROOT; its file_name "
                        "entries say which photo is which")
    parser.add_argument("--output", default="./prep_data", help="folder for the bins")
    parser.add_argument("--output_flip", default="./prep_data_flip", help="folder for the mirrored bins")
    parser.add_argument("--no_flip", action="store_true", help="write no mirrored bins: for a one-pass model, "
                        "which mirrors the crops itself, or to score without the flip test")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="AlphaPose's YAML or ours")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--detections", help="COCO results JSON with person boxes; without it people are detected")
    source.add_argument("--gt_boxes", action="store_true", help="take the annotated boxes instead of detections")
    parser.add_argument("--weights", help=f"detector weights in darknet's format (default: {WEIGHTS[0]}, or "
                        f"AlphaPose's {WEIGHTS[1]})")
    parser.add_argument("--yolo_cfg", default="configs/yolov3-spp.cfg", help="darknet's cfg of --weights")
    parser.add_argument("--person_class", type=at_least(0), help="class number of people in --weights, counted from "
                        "0 (default: the class called person in the .names file beside the cfg; without that file 0, "
                        "if the cfg has COCO's 80 classes or one class)")
    parser.add_argument("--person_category", type=int, default=PERSON, help="category_id of a person in --detections")
    parser.add_argument("--dtype", choices=list(DTYPES), default=FLOAT32, help="float32: normalised (3, H, W); uint8: "
                        "(H, W, 3), a quarter of the bytes, for models that normalise their input")
    parser.add_argument("--batch", type=at_least(1), default=1, help="people per file; ais_bench needs 1")
    parser.add_argument("--limit", type=at_least(1), help="only the first LIMIT photos, by ascending id")
    parser.add_argument("--only", help="only the photos whose ids this JSON list holds")
    parser.add_argument("--replace", action="store_true", help="remove bins that were made with other settings; "
                        "without it they are an error")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="threads that decode and crop")
    args = parse(parser, argv)
    if args.no_flip:
        args.output_flip = None
    elif os.path.realpath(args.output) == os.path.realpath(args.output_flip):
        parser.error(f"--output and --output_flip are both {args.output}, expected two folders")
    return args


def preprocess(dataroot: Path, output: Path, output_flip: Optional[Path], config: PoseSpec,
               detections_file: Optional[Path], batch: int = 1, limit: Optional[int] = None, replace: bool = False,
               workers: int = 1, images: Optional[Path] = None, annotations: Optional[Path] = None,
               person: int = PERSON, only: Optional[List[int]] = None) -> Manifest:
    """Write the bins of every person box into `output`. Write the mirrored bins into `output_flip`, unless that is
    None. Both folders get a manifest.

    With `detections_file` None the annotated boxes are used. Complete bins that were made with the same settings are
    kept. `images` and `annotations` replace those of the data root. `only` are ids of photos, in place of
    the first `limit`.
    """
    release, photos = opencv_release(), open_photos(dataroot, images, annotations)
    if detections_file:
        boxes, source, detections = DETECTED, detections_file, load_detections(detections_file, person)
        photos.add_names(detections.file_names)
        require_sizes(detections, photos, source)
    else:
        boxes, source = GROUND_TRUTH, annotations_path(annotations or dataroot)
        detections = annotated_boxes(source)
    scored = photos.first(limit) if limit and only is None else only
    if scored is not None:
        detections = detections.of_images(scored)
    if not len(detections):
        raise UserError(f"{source}: no person on the photos asked for. Raise --limit, or take other boxes")
    manifest = build_manifest(detections, sha256_of_file(source), config, batch, boxes, scored)
    if detections_file and is_emulated(read_record(f"{detections_file}.settings.json")):
        manifest.settings[EMULATED] = True
    manifest.settings.update(photographs=fingerprint_photographs(photos, detections), opencv=release)
    report_unusual_boxes(detections)

    manifests = {output: manifest, **({output_flip: manifest.mirrored()} if output_flip else {})}
    with hold(*map(make_folder, manifests)):
        folders = [BinFolder(folder, of_bins, replace) for folder, of_bins in manifests.items()]
        missing = {number for folder in folders for number in folder.missing}
        if missing:
            for folder in folders:
                folder.open()
            write_bins(photos, detections, config, folders, missing, workers)
        for folder in folders:
            folder.close()
    print(f"{len(manifest)} people of {len(set(detections.image_ids.tolist()))} photos: "
          f"{len(missing)} bins written, {len(manifest.bin_names) - len(missing)} kept, in "
          f"{' and '.join(map(str, manifests))}")
    return manifest


def read_ids(path: str) -> List[int]:
    ids = read_json(path, "list of photos")
    if not isinstance(ids, list) or not ids or set(map(type, ids)) != {int}:
        raise UserError(f"{path}: is {ids!r:.60}, expected a list of ids of photos")
    return ids


def annotated_boxes(annotations_file: Path) -> Detections:
    """The annotated boxes. A note says how many people are left out because they have no usable box."""
    annotations = load_annotations(annotations_file)
    boxes = ground_truth_boxes(annotations)
    left_out = len(annotations.people) - len(boxes)
    if left_out:
        note(f"{annotations_file}: {left_out} of {len(annotations.people)} annotated people are left out, as "
             "AlphaPose does: crowds, people without labelled joints, and boxes that lie outside their photo")
    return boxes


def fingerprint_photographs(photos: Photos, detections: Detections) -> str:
    """Digest of names and sizes of the photos, so that bins of other photos are not mixed with these.

    Raises UserError when one is missing, before anything is written.
    """
    paths = map(photos.path, sorted(set(detections.image_ids.tolist())))
    return sha256_of_rows((path.name, path.stat().st_size) for path in paths)


def require_sizes(detections: Detections, photos: Photos, source: Path) -> None:
    """Refuse boxes that are given by their corners, where the annotations hold the sizes of the photos."""
    sizes = np.array([[photos.entries.get(image_id, {}).get(key, np.inf) for key in ("width", "height")]
                      for image_id in detections.image_ids.tolist()], np.float64)
    if are_corners(detections.bbox_xywh, sizes):
        raise UserError(f"{source}: {CORNERS}")


def report_unusual_boxes(detections: Detections) -> None:
    """Warn of boxes whose size is 0 or negative; they are cropped as AlphaPose crops them."""
    count = int((detections.bbox_xywh[:, 2:] <= 0).any(axis=1).sum())
    if count:
        note(f"{count} boxes have a width or height of 0 or less. A side that is too short for the aspect "
             "ratio is taken from the other one; a box of no size at all becomes a crop of one colour.")


def write_bins(photos: Photos, detections: Detections, config: PoseSpec, folders: List[BinFolder], missing: set,
               workers: int) -> None:
    """Write the bins numbered `missing` into the first folder and, mirrored, into the second if there is one. Each
    photo is decoded once; `workers` photos are decoded at a time."""
    height, width = config.input_size
    geometry = GEOMETRIES[config.geometry]
    centers, scales = geometry.place(detections.bbox_xyxy, width / height)
    normalize = Normalizer(config.mean, config.std)
    normal, *mirrored = (RowWriter(folder.folder, folder.manifest) for folder in folders)

    def crop_photograph(image_id: int, rows: List[int]) -> int:
        image = photos.read(image_id)
        for row in rows:
            crop = crop_person(image, centers[row], scales[row], config.input_size, geometry.three_points)
            tensor = crop if config.dtype == UINT8 else normalize(crop)
            normal.put(row, tensor)
            for writer in mirrored:
                writer.put(row, mirror(tensor))
        return len(rows)

    rows_of: Dict[int, List[int]] = {}
    for row, image_id in enumerate(detections.image_ids.tolist()):
        if row // normal.manifest.batch in missing:
            rows_of.setdefault(image_id, []).append(row)
    cv2.setNumThreads(1)  # one crop is too small to share; the workers use the cores
    with ThreadPoolExecutor(workers) as pool, Progress(total=sum(map(len, rows_of.values())), unit="person",
                                                       desc="preprocess") as bar:
        jobs = [pool.submit(crop_photograph, image_id, rows) for image_id, rows in rows_of.items()]
        try:
            for job in jobs:
                bar.update(job.result())
        except BaseException:  # a bad photo, a full disk, Ctrl-C: do not start the rest
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def detect_people(args: argparse.Namespace) -> Path:
    """Detections of --weights on the photos of --dataroot, in detections.json beside the --output folder.

    They are kept for the next run. That run refuses them if its weights, settings or photos differ.
    """
    weights = args.weights or next(filter(os.path.exists, WEIGHTS), WEIGHTS[0])
    if not os.path.exists(weights):
        raise UserError(f"{weights}: no such detector weights. Name the --weights, or the --detections of another "
                        "detector")
    from detection.detector import Detector, detect_folder

    output = Path(args.output).absolute().parent / "detections.json"
    detect_folder(open_photos(args.dataroot, args.images, args.annotations), output,
                  Detector(weights, cfg=args.yolo_cfg, person_class=args.person_class), limit=args.limit,
                  replace=args.replace)
    return output


def main() -> None:
    keep_freed_memory()
    args = parse_args()
    config = dataclasses.replace(load_spec(args.cfg), dtype=args.dtype)
    detections_file = None if args.gt_boxes else Path(args.detections) if args.detections else detect_people(args)
    output_flip = Path(args.output_flip) if args.output_flip else None
    with reading(*filter(None, [detections_file])):
        preprocess(Path(args.dataroot), Path(args.output), output_flip, config, detections_file, args.batch,
                   args.limit, args.replace, args.workers, args.images, args.annotations, args.person_category,
                   read_ids(args.only) if args.only else None)


if __name__ == "__main__":
    sys.exit(exit_code(main))
