"""Turn person boxes on COCO photographs into the tensors that a pose network takes, normal and mirrored.

    python3 preprocess.py --dataroot ./data/coco --output ./prep_data --output_flip ./prep_data_flip

One .bin a person, RGB, float32 (3, 256, 192) or with --dtype uint8 (256, 192, 3), in the order of the detections file,
and beside them a manifest that says who each one is. Run again after an interruption, it continues.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import cv2
from tqdm import tqdm

from contract.arguments import DEFAULT_CONFIG, at_least
from contract.bins import BinFolder, RowWriter
from contract.errors import UserError
from contract.files import sha256_of_file, sha256_of_rows
from contract.manifest import Manifest
from contract.pixels import DTYPES, FLOAT32, UINT8
from pose.boxes import box_to_center_scale
from pose.coco import (
    Detections,
    annotations_path,
    ground_truth_boxes,
    load_annotations,
    load_detections,
    photograph_path,
)
from pose.crops import Normalizer, crop_person, mirror, read_photograph
from pose.people import DETECTED, GROUND_TRUTH, build_manifest
from pose.spec import PoseSpec, load_spec


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--dataroot", default="./data/coco", help="folder with annotations/ and val2017/")
    parser.add_argument("--output", default="./prep_data", help="folder for the bins")
    parser.add_argument("--output_flip", default="./prep_data_flip", help="folder for the mirrored bins")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="AlphaPose's YAML or ours")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--detections", help="COCO results JSON with person boxes; without it people are detected")
    source.add_argument("--gt_boxes", action="store_true", help="take the annotated boxes instead of detections")
    parser.add_argument("--weights", default="./models/yolov3-spp.weights", help="detector, in darknet's format")
    parser.add_argument("--yolo_cfg", default="configs/yolov3-spp.cfg", help="darknet's cfg of --weights")
    parser.add_argument("--dtype", choices=list(DTYPES), default=FLOAT32, help="float32: normalised (3, H, W); uint8: "
                        "(H, W, 3), a quarter of the bytes, for models that normalise")
    parser.add_argument("--batch", type=at_least(1), default=1, help="people in one file; ais_bench groups files of 1")
    parser.add_argument("--limit", type=at_least(1), help="only the first LIMIT photographs, by ascending id")
    parser.add_argument("--replace", action="store_true", help="remove bins of other settings instead of refusing")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="threads that decode and crop")
    args = parser.parse_args(argv)
    if os.path.realpath(args.output) == os.path.realpath(args.output_flip):
        parser.error(f"--output and --output_flip are both {args.output}, expected two folders")
    return args


def preprocess(dataroot: Path, output: Path, output_flip: Path, config: PoseSpec, detections_file: Optional[Path],
               batch: int = 1, limit: Optional[int] = None, replace: bool = False, workers: int = 1) -> Manifest:
    """Write the bins of every person box into `output` and, mirrored, into `output_flip`; a manifest into both.

    `detections_file` None takes the annotated boxes. What is whole and of the same settings is kept.
    """
    boxes, source = (DETECTED, detections_file) if detections_file else (GROUND_TRUTH, annotations_path(dataroot))
    annotations = load_annotations(dataroot) if limit is not None or not detections_file else None
    detections = load_detections(source) if detections_file else ground_truth_boxes(annotations)
    images = None
    if limit is not None:
        images = sorted(image["id"] for image in annotations["images"])[:limit]
        detections = detections.of_images(images)
    if not len(detections):
        raise UserError(f"{source}: no person on the photographs asked for. Raise --limit, or take other boxes")
    manifest = build_manifest(detections, sha256_of_file(source), config, batch, boxes, images)
    manifest.settings["photographs"] = fingerprint_photographs(dataroot, detections)
    report_unusual_boxes(detections)

    folders = BinFolder(output, manifest, replace), BinFolder(output_flip, manifest.mirrored(), replace)
    missing = set(folders[0].missing + folders[1].missing)
    if missing:
        for folder in folders:
            folder.open()
        write_bins(dataroot, detections, config, folders, missing, workers)
    for folder in folders:
        folder.close()
    print(f"{len(manifest)} people of {len(set(detections.image_ids.tolist()))} photographs: "
          f"{len(missing)} bins written, {len(manifest.bin_names) - len(missing)} kept, in {output} and {output_flip}")
    return manifest


def fingerprint_photographs(dataroot: Path, detections: Detections) -> str:
    """Digest of names and sizes of the photographs, so that bins of other photographs are not mixed with these.

    Raises UserError when one is missing, before anything is written.
    """
    rows = []
    for image_id in sorted(set(detections.image_ids.tolist())):
        path = photograph_path(dataroot, image_id)
        try:
            rows.append((path.name, path.stat().st_size))
        except FileNotFoundError:
            raise UserError(f"{path}: no such photograph, but a detection names it. Do the detections belong to "
                            f"--dataroot {dataroot}?") from None
    return sha256_of_rows(rows)


def report_unusual_boxes(detections: Detections) -> None:
    """Say that boxes of no or negative size are there; they are cropped as AlphaPose crops them."""
    count = int((detections.bbox_xywh[:, 2:] <= 0).any(axis=1).sum())
    if count:
        print(f"note: {count} boxes have a width or height of 0 or less. A side that is too short for the aspect "
              "ratio is taken from the other one; a box of no size at all becomes a crop of one colour.")


def write_bins(dataroot: Path, detections: Detections, config: PoseSpec, folders: Tuple[BinFolder, BinFolder],
               missing: set, workers: int) -> None:
    """Write the bins numbered `missing` into both folders, each photograph decoded once, `workers` at a time."""
    height, width = config.input_size
    centers, scales = box_to_center_scale(detections.bbox_xyxy, width / height)
    normalize = Normalizer(config.mean, config.std)
    normal, mirrored = (RowWriter(folder.folder, folder.manifest) for folder in folders)

    def crop_photograph(image_id: int, rows: List[int]) -> int:
        image = read_photograph(photograph_path(dataroot, image_id))
        for row in rows:
            crop = crop_person(image, centers[row], scales[row], config.input_size)
            tensor = crop if config.dtype == UINT8 else normalize(crop)
            normal.put(row, tensor)
            mirrored.put(row, mirror(tensor, axis=-2 if config.dtype == UINT8 else -1))
        return len(rows)

    rows_of: Dict[int, List[int]] = {}
    for row, image_id in enumerate(detections.image_ids.tolist()):
        if row // normal.manifest.batch in missing:
            rows_of.setdefault(image_id, []).append(row)
    cv2.setNumThreads(1)  # one crop is too small to share; the workers use the cores
    with ThreadPoolExecutor(workers) as pool, tqdm(total=sum(map(len, rows_of.values())), unit="person",
                                                   desc="preprocess") as bar:
        jobs = [pool.submit(crop_photograph, image_id, rows) for image_id, rows in rows_of.items()]
        try:
            for job in jobs:
                bar.update(job.result())
        except BaseException:  # a bad photograph, a full disk, Ctrl-C: do not start the rest
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def detect_people(args: argparse.Namespace) -> Path:
    """Detections of --weights on the photographs of --dataroot, in detections.json beside the --output folder.

    They are kept for the next run, and refused there if their weights, settings or photographs are others.
    """
    if not os.path.exists(args.weights):
        raise UserError(f"{args.weights}: no such detector weights. Name the --weights, or the --detections of another "
                        "detector")
    from detection.detector import Detector, detect_folder

    output = Path(args.output).absolute().parent / "detections.json"
    detect_folder(Path(args.dataroot) / "val2017", output, Detector(weights=args.weights, cfg=args.yolo_cfg),
                  limit=args.limit, replace=args.replace)
    return output


def main() -> None:
    args = parse_args()
    config = dataclasses.replace(load_spec(args.cfg), dtype=args.dtype)
    detections_file = None if args.gt_boxes else Path(args.detections) if args.detections else detect_people(args)
    preprocess(Path(args.dataroot), Path(args.output), Path(args.output_flip), config, detections_file, args.batch,
               args.limit, args.replace, args.workers)


if __name__ == "__main__":
    sys.exit(exit_code(main))
