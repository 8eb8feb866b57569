"""Find the people on COCO photos with YOLOv3-SPP, as AlphaPose does.

    python3 detect.py --dataroot ./data/coco --weights models/yolov3-spp.weights --output ./data/coco/detections.json

The output is COCO results JSON, which preprocess.py takes. Beside it, OUTPUT.settings.json says how it was made. After
an interruption, run the same command again: it continues.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import sys
from typing import List, Optional

from backends.rooms import ROOMS, add_flags, backend_of, given_flags
from contract.arguments import HelpFormatter, at_least, one_part, parse
from detection.decoding import Thresholds
from detection.detector import SPP_CFG, Detector, detect_folder
from pose.photos import open_photos


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--dataroot", default="./data/coco", help="folder with val2017/")
    parser.add_argument("--images", help="folder of photos, in place of DATAROOT/val2017")
    parser.add_argument("--annotations", help="annotations file, in place of the one in DATAROOT; its file_name "
                        "entries give each photo's id. Without entries the id is the number in the photo's name; if no "
                        "name is a number, photos are numbered from 1 in the order of their names")
    parser.add_argument("--output", default="./detections.json", help="COCO results JSON")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", help="darknet's .weights for --yolo_cfg; runs on onnxruntime and pytorch")
    source.add_argument("--model", help="model file of the backend, built from what python3 -m detection.export writes")
    parser.add_argument("--yolo_cfg", default=os.path.relpath(SPP_CFG), help="darknet's .cfg of the weights or model")
    parser.add_argument("--person_class", type=at_least(0), help="class number of people, counted from 0 (default: "
                        "the class called person in the .names file beside the cfg; without that file 0, if the cfg "
                        "has COCO's 80 classes or one class)")
    parser.add_argument("--backend", choices=sorted(ROOMS), help="what runs the network (default: chosen by the "
                        "suffix of --model; onnxruntime for --weights)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or 0 (default: the backend's)")
    add_flags(parser)
    parser.add_argument("--confidence", type=float, default=Thresholds.confidence, help="least objectness of a person")
    parser.add_argument("--nms", type=float, default=Thresholds.nms,
                        help="IoU from which the worse of two boxes is dropped; 0.05 lower where more than 100 remain")
    parser.add_argument("--batch", type=at_least(1), help="photos per batch (default: that of --model, or 1)")
    parser.add_argument("--limit", type=at_least(1), help="only the first LIMIT photos, by ascending id")
    parser.add_argument("--part", type=one_part, default="0/1", help="K/N: only part K (counted from 0) of N equal "
                        "parts; for several machines that share the folder of --output. The last part joins them")
    parser.add_argument("--replace", action="store_true",
                        help="remove detections that were made with other settings; without it they are an error")
    parser.add_argument("--skip_unreadable", action="store_true",
                        help="leave out photos that cannot be read and list them at the end")
    return parse(parser, argv)


def main() -> None:
    args = parse_args()
    backend = args.backend or (backend_of(args.model) if args.model else Detector.backend)
    detector = Detector(args.weights, args.model, args.yolo_cfg, backend, args.device, args.batch, given_flags(args),
                        args.person_class)
    detect_folder(open_photos(args.dataroot, args.images, args.annotations), args.output, detector,
                  Thresholds(args.confidence, args.nms), args.skip_unreadable, args.limit, args.replace, args.part)


if __name__ == "__main__":
    sys.exit(exit_code(main))
