"""People in pictures, folders and video: found, posed, tracked and drawn, on any device.

    python3 predict.py photo.jpg
    python3 predict.py clip.mp4 --track
    python3 predict.py folder/ --cfg configs/256x192_res50_lr1e-3_1x.yaml --model models/fast_res50_256x192.onnx

Without a model it takes the two small networks that come with the project, and without an input its sample. The
results are in --output: alphapose-results.json, people.jsonl with a line an image, and drawn pictures and videos in
vis/. A folder continues where a run was stopped.
"""
from __future__ import annotations

from contract.script import exit_code

import contextlib
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np

from backends.rooms import backend_of, given_flags
from contract.errors import UserError, note
from contract.files import make_folder, sha256_of_file
from contract.locks import hold
from contract.onnx_file import sha256_of_model
from detection.decoding import Thresholds
from detection.detector import Detector
from pose.alphapose_results import image_number
from pose.pose_nms import pose_nms
from pose.poses import People, oks_kept
from pose.skeleton import Skeleton
from pose.spec import load_spec
from prediction.arguments import complete, parse_args
from prediction.given_boxes import detected_boxes, typed_boxes
from prediction.looks import Looks
from prediction.networks import Finder, Poser
from prediction.output import RESULTS, Results
from prediction.pipeline import Boxes, Pipeline, Settings
from prediction.run import VIS, Output, Run
from prediction.sources import Sample, Video, find_sources

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
    """What the numbers follow from."""
    return {"model_sha256": sha256_of_model(args.model), "cfg_sha256": sha256_of_file(args.cfg), "backend": poser.room,
            "detector": finder.detector.origin() if finder else None, "box": args.box, "confidence": args.confidence,
            "detections_sha256": sha256_of_file(args.detections) if args.detections else None, "flip": args.flip,
            "nms": args.nms, "min_box_area": args.min_box_area, "track": args.track,
            "reid_sha256": sha256_of_model(args.reid) if args.reid else None, "options": given_flags(args)}


def predict(args: Namespace) -> None:
    output = make_folder(args.output)
    sources = find_sources(args.inputs, output)
    if args.eval or args.format == "coco":
        for name in (name for source in sources if not isinstance(source, Video) for name in source.names):
            image_number(name)  # raises now, and not after hours
    is_live = any(isinstance(source, Video) and source.live for source in sources)
    finder, poser = make_finder(args, is_live), make_poser(args, is_live)
    if args.is_sample and not isinstance(sources[0], Sample):
        note("the networks that come with the project were trained on drawn people only and find few others. Give "
             "--model and --weights for photos")
    results = Results(output, settings_of(args, finder, poser), len(poser.spec.skeleton))
    settings = Settings(make_nms(args, poser.spec.skeleton), args.showbox)
    with contextlib.ExitStack() as opened:
        opened.enter_context(hold(output))
        pipeline = opened.enter_context(Pipeline(finder, poser, settings, make_boxes(args)))
        looks = opened.enter_context(contextlib.closing(Looks(args.reid_cfg, args.reid))) if args.reid else None
        results.begin(may_continue=not args.track and not any(isinstance(source, Video) for source in sources),
                      replace=args.replace)
        run = Run(pipeline, results, Output(output, args.save_img, args.save_video, args.show),
                  partial(make_tracker, args.track, looks))
        finish = partial(results.finish, run.keys, args.format, args.eval,
                         args.sep_json or args.format in ("cmu", "open"))
        try:
            for source in sources:
                if isinstance(source, Video):
                    run.video(source)
                else:
                    run.pictures(source)
        except KeyboardInterrupt:
            finish()  # of the images so far
            raise
        finish(is_complete=True)
    tell(run, output, args.profile)


def tell(run: Run, output: Path, profile: bool) -> None:
    if run.problems and not run.results.done:
        raise UserError(run.problems[0])
    kept = f", {run.kept} more kept from before" if run.kept else ""
    problems = f", {len(run.problems)} problems" if run.problems else ""
    print(f"{output / RESULTS}: {run.people} people on {run.images} images{kept}{problems}; drawn in {output / VIS}")
    if profile:
        for stage, seconds in run.pipeline.seconds.items():
            print(f"{stage:>8} {seconds:8.2f} s at work, {1000 * seconds / max(run.images, 1):7.2f} ms an image")


def main() -> None:
    predict(complete(parse_args()))


if __name__ == "__main__":
    sys.exit(exit_code(main))
