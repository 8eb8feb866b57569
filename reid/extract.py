"""Features of people: of image files, of folders of them, or of the boxes of a detections file, on any backend.

    python3 -m reid.extract --model models/bot_r50.onnx --input test_data/*.jpg --output features/onnx
    python3 -m reid.extract --model models/bot_r50.prototxt --input photos --detections boxes.json --output features/b

Writes NAME.npy for each, (1, D) float32 of length 1 as FastReID's scripts do, and features.json, which says what made
them. Run again after an interruption, it continues.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import dataclasses
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from backends.rooms import ROOMS, add_flags, backend_of, given_flags, open_backend
from contract.arguments import HelpFormatter, at_least, parse
from contract.backend import Backend, check_backend, infer_rows
from contract.errors import UserError
from contract.files import make_folder, read_json, remove_file, write_json
from contract.locks import hold
from contract.manifest import settings_difference
from contract.onnx_file import sha256_of_model
from contract.progress import Progress
from contract.records import protect, read_record
from pose.photos import SUFFIXES, Photos, read_photograph
from reid.crops import RESIZES, region, to_row
from reid.export import DEFAULT_CONFIG
from reid.features import RECORD, SUFFIX, write_feature
from reid.ranking import normalise
from reid.spec import ReidSpec, load_spec

DEFAULT_BATCH = 16  # of a model that takes any


@dataclasses.dataclass(frozen=True)
class Crop:
    """One person: an image file, or a box of one, xywh in pixels."""

    name: str
    file: Path
    bbox: Optional[Tuple[float, ...]] = None
    score: Optional[float] = None

    def describe(self) -> Dict[str, Any]:
        return {"file": str(self.file), "bytes": self.file.stat().st_size, "bbox": self.bbox and list(self.bbox),
                "score": self.score}


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m reid.extract", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--model", "--model-path", "--model-def", "--model-weights", required=True,
                        help=".onnx, .prototxt, .pth or another that a backend runs")
    parser.add_argument("--backend", choices=sorted(ROOMS), help="what runs the model; by its suffix without")
    parser.add_argument("--input", nargs="+", required=True, help="images, or folders of them")
    parser.add_argument("--detections", help="COCO results of people in the photos of --input, one folder: a feature "
                        "for each box")
    parser.add_argument("--output", required=True, help="folder of the features")
    parser.add_argument("--config-file", default=DEFAULT_CONFIG, help="YAML of the model, ours or FastReID's")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="changes to it")
    parser.add_argument("--height", type=at_least(1), help="of the input; the config's if not given")
    parser.add_argument("--width", type=at_least(1), help="of the input; the config's if not given")
    parser.add_argument("--resize", choices=sorted(RESIZES), help="pil as FastReID evaluates, cv2 as its demo and "
                        "deploy scripts; the config's if not given")
    parser.add_argument("--raw", action="store_true", help="leave features at the length that the model gives them")
    parser.add_argument("--batch-size", type=at_least(1), help=f"people at once; the model's own, or {DEFAULT_BATCH}")
    parser.add_argument("--device", help="cpu, cuda, 0; the backend's own choice if not given")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="threads that read images")
    add_flags(parser)
    return parse(parser, argv)


def crops_of_images(inputs: List[str]) -> List[Crop]:
    """Every image, by its name without suffix. Raises UserError for two of one name."""
    files: List[Path] = []
    for path in map(Path, inputs):
        files += Photos(path).files if path.is_dir() else [path]
    if not files:
        raise UserError(f"{' '.join(inputs)}: no images ({', '.join(SUFFIXES)})")
    known: Dict[str, Path] = {}
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such image")
        if known.setdefault(file.stem, file) is not file:
            raise UserError(f"{file} and {known[file.stem]} would both be {file.stem}{SUFFIX}. Extract them into two "
                            "folders, or rename one")
    return [Crop(name, file) for name, file in known.items()]


def crops_of_boxes(folder: str, detections: str) -> List[Crop]:
    """Every box of a detections file, as PHOTO_NUMBER, numbers from 0 in each photo."""
    photos, boxes = Photos(folder), read_json(detections, "detections")
    counts: Dict[int, int] = {}
    crops = []
    try:
        for entry in boxes:
            image_id, bbox = int(entry["image_id"]), tuple(map(float, entry["bbox"]))
            number = counts[image_id] = counts.get(image_id, -1) + 1
            if len(bbox) != 4 or not np.isfinite(bbox).all():
                raise ValueError(bbox)
            file = photos.path(image_id)
            crops.append(Crop(f"{file.stem}_{number:03d}", file, bbox, float(entry["score"])))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{detections}: box {len(crops)}: expected image_id, bbox of 4 numbers and score") from None
    if not crops:
        raise UserError(f"{detections}: no boxes")
    return crops


def read_row(crop: Crop, spec: ReidSpec) -> np.ndarray:
    image = read_photograph(crop.file)
    part = image if crop.bbox is None else region(image, crop.bbox)
    return to_row(RESIZES[spec.geometry](np.ascontiguousarray(part), spec.input_size), spec.dtype, spec.mean, spec.std)


def read_spec(args: argparse.Namespace) -> ReidSpec:
    spec = load_spec(args.config_file, args.opts)
    return dataclasses.replace(spec, geometry=args.resize or spec.geometry, input_size=(
        args.height or spec.input_size[0], args.width or spec.input_size[1]))


def settings_of(args: argparse.Namespace, backend: Backend, spec: ReidSpec) -> Dict[str, Any]:
    """The settings that decide the features. Features of different settings must not be mixed."""
    return {"model": Path(args.model).name, "model_sha256": sha256_of_model(args.model), "backend": args.backend,
            **backend.describe(), "dtype": spec.dtype, **spec.of_data(), "normalised": not args.raw,
            **given_flags(args)}


def begin(output: Path, settings: Dict[str, Any], crops: List[Crop]) -> List[Crop]:
    """Write the record; the crops that have no feature of these settings yet. Raises UserError where the folder holds
    features of others."""
    path, now = output / RECORD, {crop.name: crop.describe() for crop in crops}
    earlier = read_record(path) or {}
    before = earlier.pop("images", {})
    protect(output, earlier or None, settings)
    difference = settings_difference(settings, earlier) if earlier else None
    if difference:
        raise UserError(f"{output}: holds features of other settings, {difference}. Name another --output, or remove "
                        "it")
    missing = [crop for crop in crops if before.get(crop.name) != now[crop.name]
               or not (output / f"{crop.name}{SUFFIX}").exists()]
    for crop in missing:
        remove_file(output / f"{crop.name}{SUFFIX}")
    write_json(path, {**settings, "images": {**before, **now}})
    return missing


def extract(backend: Backend, spec: ReidSpec, crops: List[Crop], args: argparse.Namespace) -> None:
    """Write the features of `crops`. Images are read while the batch before them is in the model."""
    batch = args.batch_size or backend.input_shape[0] or DEFAULT_BATCH
    parts = [crops[start:start + batch] for start in range(0, len(crops), batch)]
    with ThreadPoolExecutor(args.workers) as pool, Progress(total=len(crops), unit="person") as bar:
        def read(part: List[Crop]) -> List[Any]:
            return [pool.submit(read_row, crop, spec) for crop in part]

        coming = read(parts[0]) if parts else []
        for number, part in enumerate(parts):
            rows = np.stack([future.result() for future in coming])
            coming = read(parts[number + 1]) if number + 1 < len(parts) else []
            features = infer_rows(backend, rows, backend.input_shape[0] or batch).reshape(len(part), -1)
            for crop, feature in zip(part, features if args.raw else normalise(features)):
                write_feature(args.output, crop.name, feature)
            bar.update(len(part))


def main() -> None:
    args = parse_args()
    args.backend = args.backend or backend_of(args.model)
    spec = read_spec(args)
    if args.detections and (len(args.input) > 1 or not Path(args.input[0]).is_dir()):
        raise UserError("--detections goes with one folder of photos as --input")
    crops = crops_of_boxes(args.input[0], args.detections) if args.detections else crops_of_images(args.input)
    with closing(open_backend(args.backend, args.model, args.device, spec, **given_flags(args))) as backend:
        spec = dataclasses.replace(spec, dtype=np.dtype(backend.input_dtype).name)
        check_backend(backend, args.model, spec)
        output = make_folder(args.output)
        with hold(output):
            missing = begin(output, settings_of(args, backend, spec), crops)
            start = time.perf_counter()
            extract(backend, spec, missing, args)
    seconds = time.perf_counter() - start
    print(f"{args.output}: {len(crops)} features of {spec.dim}, {len(crops) - len(missing)} kept"
          + (f", {len(missing) / seconds:.1f} per second" if missing else ""))


if __name__ == "__main__":
    sys.exit(exit_code(main))
