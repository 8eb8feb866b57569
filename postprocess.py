"""Fuse the heatmaps of normal and mirrored crops, decode keypoints, drop duplicates, and score them as COCO does.

    python3 postprocess.py --dataroot ./data/coco --dump_dir ./results/bs16 --dump_dir_flip ./results/bs16_flip

Reads the dumps of ais_bench or infer.py, float32 or float16, and opens no photo.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import json
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least, parse
from contract.dumps import DumpReader, summary_of
from contract.errors import UserError, note
from contract.files import make_folder, read_json, remove_file, require_writable, sha256_of_file, write_file, write_json
from contract.locks import hold
from contract.manifest import Manifest, settings_difference
from contract.measures import is_measure
from contract.memory import keep_freed_memory
from contract.progress import Progress
from contract.published import expectations
from contract.records import is_emulated
from contract.run_record import find_mismatch, remarks
from contract.spec import KEYPOINTS
from contract.tables import format_table
from pose.annotations import Annotations, annotations_path, load_annotations
from pose.coco import PERSON, load_detections
from pose.coco_results import results_of
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import FLIP_SHIFTS
from pose.oks import NMS
from pose.people import build_manifest, load_people, spec_of_dumps
from pose.result_table import result_row, score_cell
from pose.spec import load_spec

VAL2017 = 5000  # photos of the set that published scores are of
PEOPLE_AT_ONCE = 8  # two stacks of heatmaps this long stay in a core's cache


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--dataroot", default="./data/coco", help="folder with annotations/")
    parser.add_argument("--annotations", help="annotations file, in place of the one in DATAROOT")
    parser.add_argument("--no_score", action="store_true", help="only write keypoints.json, for photos without "
                        "annotations")
    parser.add_argument("--dump_dir", required=True, help="dumps of the normal bins")
    parser.add_argument("--dump_dir_flip", help="dumps of the mirrored bins; without them there is no flip test")
    parser.add_argument("--manifest", default="./prep_data/manifest.json", help="what preprocess.py wrote")
    parser.add_argument("--detections", help="detections file that the bins were made from, if they came without a "
                        "manifest")
    parser.add_argument("--person_category", type=int, default=PERSON, help="category_id of a person in --detections")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="config of the model; its published figures are shown "
                        "beside the scores, and with --detections it also describes the crops")
    parser.add_argument("--output", help="folder for keypoints.json and metrics.json (default: DUMP_DIR_score)")
    parser.add_argument("--flip_shift", choices=sorted(FLIP_SHIFTS), default="clean",
                        help="original: AlphaPose's shift as it runs on a CPU, with its overlapping copy")
    parser.add_argument("--nms", choices=sorted(NMS), default="greedy", help="soft: AlphaPose's unused variant")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="threads that read and decode")
    args = parse(parser, argv)
    if args.dump_dir_flip and os.path.realpath(args.dump_dir) == os.path.realpath(args.dump_dir_flip):
        parser.error(f"--dump_dir and --dump_dir_flip are both {args.dump_dir}, expected two folders")
    if args.flip_shift != parser.get_default("flip_shift") and not args.dump_dir_flip:
        parser.error(f"--flip_shift {args.flip_shift}: only with --dump_dir_flip. The shift of a one-pass model is "
                     "inside it: python3 pth2onnx.py --one_pass --flip_shift")
    return args


def postprocess(truth: Optional[Annotations], manifest: Manifest, dump_dir: Path, dump_dir_flip: Optional[Path],
                output: Path, flip_shift: str = "clean", nms: str = "greedy", workers: int = 1) -> Dict[str, Any]:
    """Decode the dumps of `manifest` and score them. Write keypoints.json and metrics.json into `output`, and return
    the content of metrics.json. Its `metrics` are None without annotations."""
    if truth:
        truth.require_images(manifest["image_id"].tolist(), "detections")
        if manifest.settings["images"] is not None:
            truth.require_images(manifest.settings["images"], "manifest's images")
    readers = [DumpReader(dump_dir, manifest)]
    one_pass = spec_of_dumps(readers[0]).decode == KEYPOINTS
    if dump_dir_flip:
        if one_pass:
            raise UserError(f"{dump_dir}: dumps of a one-pass model, which has mirrored the crops itself. Leave out "
                            "--dump_dir_flip")
        readers.append(DumpReader(dump_dir_flip, manifest.mirrored()))
        check_same_run(*readers)
    require_writable(output)
    keypoints, scores = decode_dumps(readers, flip_shift, workers)
    for reader in readers:
        reader.lock.release()  # the output may be in their folder
    if (keypoints == keypoints[:, :1]).all():
        note(f"{dump_dir}: all joints of a person lie in one place, for every person. Does each dump "
             "hold a single value?")
    results = results_of(manifest, keypoints, scores, nms)
    metrics = {
        "metrics": score(truth, results, manifest.settings["images"]) if truth else None,
        "emulated": any(map(is_emulated, (manifest.settings, *(reader.settings for reader in readers)))),
        "people": {"boxes": len(manifest), "after_nms": len(results)},
        "settings": {"flip_test": dump_dir_flip is not None, "flip_shift": flip_shift, "nms": nms, "one_pass": one_pass,
                     "boxes": manifest.settings["boxes"], "config": manifest.settings["config"]},
        "dumps": [reader.settings for reader in readers],
        "speed": read_speed(readers),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    with hold(make_folder(output)):
        remove_file(output / "metrics.json")  # of an earlier run; it must not describe these keypoints
        write_file(output / "keypoints.json", json.dumps(results).encode())
        write_json(output / "metrics.json", metrics)
    return metrics


def score(truth: Annotations, results: List[Dict[str, Any]], images: Optional[List[int]]) -> Dict[str, float]:
    from pose.score import score_keypoints  # pycocotools takes longer to load than everything else here

    return score_keypoints(truth, results, images)


def open_annotations(args: argparse.Namespace) -> Optional[Annotations]:
    """The checked annotations to score with. Without annotations None, and a note says so."""
    path = annotations_path(args.annotations or args.dataroot)
    if args.no_score:
        return None
    if args.annotations or path.exists() or not os.path.isdir(args.dataroot):
        return load_annotations(path)
    note(f"{path}: not there, so keypoints.json is written and nothing is scored")
    return None


def decode_dumps(readers: List[DumpReader], flip_shift: str, workers: int) -> Tuple[np.ndarray, np.ndarray]:
    """All dumps -> (N, K, 2) keypoints and (N, K) scores. Only the heatmaps of a few people are in memory at a time.
    Keypoints of a one-pass model only need their place in the photo."""
    manifest, shape, spec = readers[0].manifest, readers[0].shape, spec_of_dumps(readers[0])
    keypoints = np.empty((len(manifest), shape[0], 2), np.float32)
    scores = np.empty(keypoints.shape[:2], np.float32)

    def decode(numbers: range) -> int:
        rows = manifest.rows_of(numbers)
        stacks = [reader.read_all(numbers) for reader in readers]
        keypoints[rows], scores[rows] = heatmaps_to_keypoints(
            stacks[0], stacks[1] if len(stacks) > 1 else None, manifest["crop_xyxy"][rows], spec, flip_shift)
        return rows.stop - rows.start

    with ThreadPoolExecutor(workers) as pool, Progress(total=len(manifest), unit="person", desc="postprocess") as bar:
        for people in pool.map(decode, manifest.chunks(PEOPLE_AT_ONCE)):
            bar.update(people)
    return keypoints, scores


def check_same_run(normal: DumpReader, mirrored: DumpReader) -> None:
    """Refuse dumps of two models or of swapped folders, if both have settings. Dumps of ais_bench have none."""
    if normal.settings is None or mirrored.settings is None:
        return
    difference = settings_difference(normal.settings, mirrored.settings, but=("bins", "files"))
    if difference:
        raise UserError(f"{normal.folder} and {mirrored.folder}: dumps of two runs ({difference})")


def read_speed(readers: List[DumpReader]) -> Dict[str, Any]:
    """What the summaries beside the dumps say: crops per second in the model alone (ais_bench's throughput), people per
    second from bins to dumps, and remarks on both. A person counts once per folder. Empty if nothing was timed;
    `refused` in place of speeds, and a note, where a summary is not of the run that made the dumps."""
    paths = [summary_of(reader.folder) for reader in readers]
    summaries = [read_json(path, "summary") if path.exists() else None for path in paths]
    model = [_rate(path, summary, "throughput") for path, summary in zip(paths, summaries)]
    whole = [_rate(path, summary, "end_to_end", "people_per_second") for path, summary in zip(paths, summaries)]
    speed: Dict[str, Any] = {}
    if all(model):
        speed["crops_per_second"] = float(np.mean(model))
    if all(whole):
        speed["people_per_second"] = 1 / sum(1 / rate for rate in whole)
    for path, summary, reader in zip(paths, summaries, readers) if speed else ():
        mismatch = reader.settings and find_mismatch(reader.folder, summary, reader.settings)
        if mismatch:
            note(f"{path}: {mismatch}. No speed is given")
            return {"refused": f"{path}: {mismatch}"}
    return {**speed, "remarks": remarks(summaries)} if speed else {}


def _rate(path: Path, summary: Any, *keys: str) -> float:
    """A number of a summary, which another tool may have written. 0 if it has none. A note names impossible values."""
    value = summary
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return 0
    if not is_measure(value) or not value:
        note(f"{path}: {' '.join(keys)} is {value!r:.40}, expected a number above 0. No speed is given")
        return 0
    return value


def open_manifest(args: argparse.Namespace) -> Manifest:
    if args.detections:
        detections = load_detections(args.detections, args.person_category)
        return build_manifest(detections, sha256_of_file(args.detections), load_spec(args.cfg))
    if not os.path.exists(args.manifest):
        raise UserError(f"{args.manifest}: no such manifest. Name the --manifest beside the bins. For bins that came "
                        "without a manifest, name the --detections that they were made from")
    return load_people(args.manifest)


def format_tables(metrics: Dict[str, Any]) -> str:
    """The ten COCO numbers, if there is a score, and the row of the result table, in Markdown."""
    numbers = {name: score_cell(metrics, name) for name in metrics["metrics"] or ()}
    return "\n\n".join(format_table(list(row), [list(row.values())]) for row in (numbers, result_row(metrics)) if row)


def published_lines(metrics: Dict[str, Any], cfg: str) -> List[str]:
    """What was published of this model where these dumps were made: of COCO's complete val2017, with the flip test."""
    settings = metrics["dumps"][0]
    if settings is None or not metrics["settings"]["flip_test"] or metrics["emulated"]:
        return []
    got = {"AP": metrics["metrics"]["AP"], "crops/s": metrics["speed"].get("crops_per_second")}
    return expectations(load_spec(cfg), settings, got, metrics["settings"]["boxes"])


def main() -> None:
    keep_freed_memory()
    args = parse_args()
    truth, manifest = open_annotations(args), open_manifest(args)
    metrics = postprocess(truth, manifest, Path(args.dump_dir),
                          Path(args.dump_dir_flip) if args.dump_dir_flip else None,
                          Path(args.output or args.dump_dir.rstrip("/") + "_score"), args.flip_shift, args.nms,
                          args.workers)
    print(format_tables(metrics))
    complete = truth is not None and manifest.settings["images"] is None and len(truth.images) == VAL2017
    for line in published_lines(metrics, args.cfg) if complete else ():
        print(line)


if __name__ == "__main__":
    sys.exit(exit_code(main))
