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
import resource
import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path

import cv2

from contract.errors import UserError, note
from contract.files import make_folder
from contract.locks import hold
from pose.alphapose_results import image_number
from prediction.arguments import complete, parse_args
from prediction.assembly import make_boxes, make_finder, make_nms, make_poser, make_tracker, settings_of
from prediction.looks import Looks
from prediction.output import RESULTS, Results
from prediction.pipeline import Pipeline, Settings
from prediction.run import VIS, Output, Run
from prediction.sources import Sample, Video, find_sources


def predict(args: Namespace) -> None:
    output = make_folder(args.output)
    sources = find_sources(args.inputs, output)
    if args.eval or args.format == "coco":
        for name in (name for source in sources if not isinstance(source, Video) for name in source.names):
            image_number(name)  # raises now, and not after hours
    is_live = any(isinstance(source, Video) and source.live for source in sources)
    finder, poser = make_finder(args, is_live), make_poser(args, is_live)
    if args.is_sample and not isinstance(sources[0], Sample):
        note("the networks that come with the project were trained on drawn people only and find few real ones. Give "
             "--model and --weights for photos")
    results = Results(output, settings_of(args, finder, poser), len(poser.spec.skeleton))
    settings = Settings(make_nms(args, poser.spec.skeleton), args.showbox)
    cv2.setNumThreads(1)  # the stages use the cores
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
        start = time.perf_counter()
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
        seconds = time.perf_counter() - start
    tell(run, output)
    if args.profile:
        print(profile_of(run, seconds))


def tell(run: Run, output: Path) -> None:
    if run.problems and not run.results.done:
        raise UserError(run.problems[0] if not run.told else
                        f"{len(run.problems)} problems, and no image that can be read. The first: {run.problems[0]}")
    kept = f", {run.kept} more kept from before" if run.kept else ""
    problems = ", " + counted(len(run.problems), "problem", "problems") if run.problems else ""
    print(f"{output / RESULTS}: {counted(run.people, 'person', 'people')} on {counted(run.images, 'image', 'images')}"
          f"{kept}{problems}; drawn in {output / VIS}")


def counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def profile_of(run: Run, seconds: float) -> str:
    """How long each stage worked, which other stages at work beside it make longer, and what all of it took."""
    stages = run.pipeline.seconds
    lines = [f"{stage:>8} {worked:8.2f} s at work, {1000 * worked / max(run.images, 1):7.2f} ms an image"
             for stage, worked in stages.items()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    at_once = sum(stages.values()) / seconds
    return "\n".join([*lines, f"{'all':>8} {seconds:8.2f} s, {at_once:.2f} stages at work at a time, "
                      f"{run.images / seconds:.2f} images/s, peak memory {peak:.0f} MiB"])


def main() -> None:
    args = complete(parse_args())
    if args.distributed:
        from cluster.job import predict_on_cluster  # here, because only a cluster needs Ray

        predict_on_cluster(args)
    else:
        predict(args)


if __name__ == "__main__":
    sys.exit(exit_code(main))
