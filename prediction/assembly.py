"""From predict.py's arguments to networks, boxes, NMS and tracker, and the settings that its results depend on."""
from __future__ import annotations

from argparse import Namespace
from typing import Any, Callable, Dict, Optional

import numpy as np

from backends.rooms import backend_of, given_flags
from contract.files import sha256_of_file
from contract.onnx_file import sha256_of_model
from detection.decoding import Thresholds
from detection.detector import Detector
from pose.pose_nms import pose_nms
from pose.poses import People, oks_kept
from pose.skeleton import Skeleton
from pose.spec import load_spec
from prediction.given_boxes import detected_boxes, typed_boxes
from prediction.looks import Looks
from prediction.networks import Finder, Poser
from prediction.pipeline import Boxes

WEIGHTS = ".weights"
POSE_BATCH, DETECTOR_BATCH = 8, 2  # where the user and the model file do not say


def make_finder(args: Namespace, is_live: bool) -> Optional[Finder]:
    """The detector that the arguments name; None where boxes are given."""
    if args.detections or args.box:
        return None
    pose_room = args.backend or backend_of(args.model)
    is_weights = args.weights.endswith(WEIGHTS)
    room = ("pytorch" if pose_room == "pytorch" and not args.is_sample else "onnxruntime") if is_weights \
        else backend_of(args.weights)
    alike = room == pose_room
    file = {"weights" if is_weights else "model": args.weights}
    usual_batch = DETECTOR_BATCH if is_weights and not is_live else None  # else what the model was made for, or 1
    detector = Detector(**file, cfg=args.yolo_cfg, backend=room, device=args.device if alike else None,
                        batch=args.detbatch or usual_batch, options=given_flags(args) if alike else {},
                        person_class=args.person_class)
    return Finder(detector, Thresholds(args.confidence))


def make_poser(args: Namespace, is_live: bool) -> Poser:
    room = args.backend or backend_of(args.model)
    return Poser(room, args.model, load_spec(args.cfg), args.device, given_flags(args), args.posebatch,
                 1 if is_live else POSE_BATCH, args.flip)


def make_nms(args: Namespace, skeleton: Skeleton) -> Callable[[People, np.ndarray], People]:
    """(people, areas of their crops) -> those that stay."""
    return {"parametric": lambda people, areas: pose_nms(people, args.min_box_area),
            "oks": lambda people, areas: oks_kept(people, areas, skeleton),
            "none": lambda people, areas: people}[args.nms]


def make_tracker(name: Optional[str], looks: Optional[Looks] = None) -> Any:
    if name == "poseflow":
        from tracking.poseflow import PoseFlow

        return PoseFlow()
    from tracking.tracker import Tracker

    return Tracker(looks) if name else None


def make_boxes(args: Namespace) -> Optional[Boxes]:
    if args.box:
        return typed_boxes(args.box)
    return detected_boxes(args.detections, args.confidence) if args.detections else None


def settings_of(args: Namespace, finder: Optional[Finder], poser: Poser) -> Dict[str, Any]:
    """The settings that the results depend on."""
    return {"model_sha256": sha256_of_model(args.model), "cfg_sha256": sha256_of_file(args.cfg), "backend": poser.room,
            "detector": finder.detector.origin() if finder else None, "box": args.box, "confidence": args.confidence,
            "detections_sha256": sha256_of_file(args.detections) if args.detections else None, "flip": args.flip,
            "nms": args.nms, "min_box_area": args.min_box_area, "track": args.track,
            "reid_sha256": sha256_of_model(args.reid) if args.reid else None, "options": given_flags(args)}
