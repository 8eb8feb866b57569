"""The options of predict.py, including those of AlphaPose and AlphaPose_TRT."""
from __future__ import annotations

from contract.script import ROOT

import argparse
import os
import sys
from typing import Any, Dict, List, Optional, Tuple

from backends.rooms import ROOMS, add_flags
from contract.arguments import DEFAULT_CONFIG, at_least, parse
from contract.errors import UserError, note
from detection.decoding import Thresholds
from detection.detector import SPP_CFG
from pose.alphapose_results import FORMATS

SAMPLE_CONFIG, SAMPLE_MODEL = ROOT / "configs" / "demo_fastpose.yaml", ROOT / "demo" / "fastpose_small.pth"
SAMPLE_YOLO_CFG, SAMPLE_WEIGHTS = ROOT / "configs" / "demo_yolov3_tiny.cfg", ROOT / "demo" / "yolov3_demo.weights"
YOLO_WEIGHTS = os.path.join("models", "yolov3-spp.weights")  # taken where no detector is named
OUTPUT, ALPHAPOSE_OUTPUT = "./predictions", os.path.join("examples", "res")
TRACKING_CONFIDENCE = 0.3  # AlphaPose's, of all its trackers
NMS = ("parametric", "oks", "none")
TRACKERS = ("motion", "poseflow")
SHARD = 64  # pictures: seconds of work, so that little is lost with a worker
# Flags of AlphaPose and AlphaPose_TRT that are accepted and ignored, and why.
IGNORED = {"dll_file": "no plugin is needed", "qsize": "queue lengths are fixed", "sp": "there is one process",
           "vis_fast": "there is one way to draw", "debug": "errors are always shown", "gpus": "use --device"}
ALPHAPOSE_INPUTS = ("indir", "image", "video", "webcam")  # and list


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Find people in pictures, folders and videos; estimate, track and draw their poses. Without an "
        "input and without a model, the sample that comes with the project is used.", allow_abbrev=False)
    add_inputs(parser)
    add_networks(parser)
    add_people(parser)
    add_outputs(parser)
    add_cluster(parser)
    given = sys.argv[1:] if argv is None else argv
    return parse(parser, ["--sep_json" if flag == "--sep-json" else flag for flag in given])  # as AlphaPose has it


def add_inputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input")
    group.add_argument("inputs", nargs="*", metavar="INPUT", help="pictures, folders, patterns such as 'a/*.jpg', "
                       "videos, a stream's URL, a camera's number, or - for paths on standard input")
    group.add_argument("--indir", help="a folder of pictures")
    group.add_argument("--list", help="a file with a path in each line")
    group.add_argument("--image", help="a picture")
    group.add_argument("--video", help="a video")
    group.add_argument("--webcam", type=at_least(0), help="a camera's number")


def add_networks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("networks")
    group.add_argument("--cfg", help=f"config of the pose model (default: {DEFAULT_CONFIG})")
    group.add_argument("--model", "--checkpoint", "--pose_engine", "--engine", help="pose model: .pth, .onnx, .engine "
                       "or .om (default: the small model that comes with the project)")
    group.add_argument("--weights", "--yolo_engine", help="detector: darknet's .weights, or an .onnx, .engine or .om "
                       f"made from the output of python3 -m detection.export (default: {YOLO_WEIGHTS})")
    group.add_argument("--yolo_cfg", help=f"darknet's .cfg of the detector (default: {os.path.relpath(SPP_CFG)})")
    group.add_argument("--person_class", type=at_least(0), help="class number of people, counted from 0; needed "
                       "if the detector's .cfg does not make it clear")
    group.add_argument("--detector", choices=("yolo", "yolo_trt"), help="yolo uses the default --weights even if "
                       "--yolo_engine is given")
    group.add_argument("--detections", "--detfile", help="boxes of any detector, as COCO results JSON, instead "
                       "of --weights")
    group.add_argument("--box", type=box, action="append", metavar="X,Y,W,H", help="a box of a person on every "
                       "picture, in pixels, instead of a detector; may be repeated")
    group.add_argument("--backend", choices=sorted(ROOMS), help="what runs the pose model (default: chosen by the "
                       "suffix of the model)")
    group.add_argument("--device", help="cpu, cuda, cuda:1 or 0 (default: the backend's own)")
    group.add_argument("--detbatch", type=at_least(1), help="images per batch of the detector (default: the detector's "
                       "fixed batch, or 2; 1 for a camera)")
    group.add_argument("--posebatch", type=at_least(1), help="crops per batch of the pose model (default: the model's "
                       "fixed batch, or 8; 1 for a camera)")
    add_flags(group)


def add_people(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("people")
    group.add_argument("--confidence", type=float, help=f"lowest score of a box (default: {Thresholds.confidence}, or "
                       f"{TRACKING_CONFIDENCE} with --track poseflow)")
    group.add_argument("--flip", action="store_true", help="use the mirror image of each crop too: slower, but more "
                       "accurate")
    group.add_argument("--nms", choices=NMS, default="parametric", help="duplicate poses of one person: parametric "
                       "merges them (best to look at), oks drops the worse of two (best for scoring), none keeps all; "
                       "default: %(default)s")
    group.add_argument("--min_box_area", type=float, default=0, help="with --nms parametric: leave out people whose "
                       "box has fewer square pixels")
    group.add_argument("--track", nargs="?", choices=TRACKERS, const=TRACKERS[0], help="give each person an id that "
                       "stays the same from frame to frame. motion (the default of --track): by motion and pose; "
                       "poseflow: by PoseFlow, AlphaPose's tracker")
    group.add_argument("--reid", help="model for re-identification: --track motion then recognises people who come "
                       "back")
    group.add_argument("--reid_cfg", help="config of the --reid model")
    group.add_argument("--pose_track", action="store_true", help="--track motion, without --nms")
    group.add_argument("--pose_flow", action="store_true", help="--track poseflow")


def add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--output", "--outdir", help=f"folder of the results (default: {OUTPUT}, or {ALPHAPOSE_OUTPUT} "
                       "where the input is named by AlphaPose's flags)")
    group.add_argument("--format", choices=sorted(FORMATS), default="default", help="format of "
                       "alphapose-results.json; default: %(default)s")
    group.add_argument("--eval", action="store_true", help="in that file, name images by their numbers")
    group.add_argument("--sep_json", action="store_true", help="also write one file per image, in sep-json/; "
                       "the formats cmu and open always do")
    group.add_argument("--save_img", action=argparse.BooleanOptionalAction, help="draw pictures, into vis/ (default: "
                       "yes; of a video's frames, no)")
    group.add_argument("--save_video", action=argparse.BooleanOptionalAction, help="draw videos, into vis/ (default: "
                       "yes)")
    group.add_argument("--showbox", action="store_true", help="draw boxes too")
    group.add_argument("--show", "--vis", action="store_true", help="show each image in a window")
    group.add_argument("--replace", action="store_true", help="start again, even if a run can be continued")
    group.add_argument("--profile", action="store_true", help="print how long each stage worked")
    for name, why in IGNORED.items():
        takes: Dict[str, Any] = {"action": "store_true"} if name in ("sp", "vis_fast", "debug") else {}
        group.add_argument(f"--{name}", help=f"accepted and ignored: {why}", **takes)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many machines, with Ray: see docs/scale.md")
    group.add_argument("--distributed", choices=("local", "auto"), help="work on shards of images in parallel, on "
                       "this machine (local) or on the Ray cluster that it belongs to (auto); nothing is drawn")
    group.add_argument("--workers", type=at_least(1), help="processes that hold the networks (default: one per NPU or "
                       "GPU if the backend uses them, else one per machine)")
    group.add_argument("--shard", type=at_least(1), default=SHARD, help="pictures per shard, and about "
                       "as many frames of a video; default: %(default)s")
    group.add_argument("--max_failures", type=at_least(0), help="stop if more images than this cannot be read "
                       "(default: never)")
    group.add_argument("--price", type=float, help="price of one worker for one hour; the cost of a million "
                       "images is then printed")


def box(text: str) -> Tuple[float, float, float, float]:
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError:
        width = height = 0
    if not (0 < width < float("inf") and 0 < height < float("inf")):
        raise argparse.ArgumentTypeError(f"{text!r}, expected X,Y,W,H in pixels, such as 10,20,80,200")
    return x, y, width, height


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in the arguments that depend on others, and note flags that are ignored. Raises UserError."""
    given = [name for name in IGNORED if getattr(args, name)]
    if given:
        note("; ".join(f"--{name}: {IGNORED[name]}" for name in given))
    named = [str(getattr(args, name)) for name in ALPHAPOSE_INPUTS if getattr(args, name) is not None]
    named += _listed(args.list) if args.list else []
    args.inputs += named
    args.output = args.output or (ALPHAPOSE_OUTPUT if named else OUTPUT)
    if args.pose_flow or args.pose_track:
        args.track = "poseflow" if args.pose_flow else "motion"
    if args.pose_track:
        args.nms = "none"
    if args.confidence is None:
        args.confidence = TRACKING_CONFIDENCE if args.track == "poseflow" else Thresholds.confidence
    if args.reid and (args.track != "motion" or not args.reid_cfg):
        raise UserError("--reid goes with --track motion and the --reid_cfg of its model")
    if args.distributed and (args.track or args.detections or args.save_img or args.save_video or args.show):
        raise UserError("--distributed takes images one by one, also of a video, and draws nothing: leave out --track, "
                        "--detections, --save_img, --save_video and --show")
    if args.detections and args.box:
        raise UserError("--detections and --box both say where people are: give one of them")
    args.is_sample = args.model is None
    if args.is_sample and args.cfg:
        raise UserError(f"--cfg {args.cfg}: give the --model of this config too")
    args.cfg = args.cfg or (str(SAMPLE_CONFIG) if args.is_sample else DEFAULT_CONFIG)
    args.model = args.model or str(SAMPLE_MODEL)
    complete_detector(args)
    return args


def complete_detector(args: argparse.Namespace) -> None:
    if args.detector == "yolo":
        args.weights = YOLO_WEIGHTS
    args.is_sample_detector = args.weights is None and args.is_sample
    if args.is_sample_detector:
        args.weights, args.yolo_cfg = str(SAMPLE_WEIGHTS), args.yolo_cfg or str(SAMPLE_YOLO_CFG)
    args.weights = args.weights or YOLO_WEIGHTS
    args.yolo_cfg = args.yolo_cfg or os.path.relpath(SPP_CFG)
    if not (args.detections or args.box or os.path.isfile(args.weights)):
        raise UserError(f"{args.weights}: no such detector. Give its --weights, the boxes of another detector with "
                        "--detections, or a --box")


def _listed(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{path}: no such list of pictures") from None
