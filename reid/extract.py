"""Features of people: of image files, of folders of them, or of the boxes of a detections file, on any backend.

    python3 -m reid.extract --model models/bot_r50.onnx --input test_data/*.jpg --output features/onnx
    python3 -m reid.extract --model models/bot_r50.prototxt --input photos --detections boxes.json --output features/b

Writes NAME.npy for each, (1, D) float32 of length 1 as FastReID's scripts do, and features.json, which says what made
them. Run again after an interruption, it continues. For programs that run a model from files to files, it writes bins,
and makes features of their dumps:

    python3 -m reid.extract --input test_data --bins prep_reid
    python3 -m ascend.ais_bench --model models/bot_r50_bs1.om --input prep_reid --output results --output_dirname reid
    python3 -m reid.extract --bins prep_reid --dumps results/reid --output features/om
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
from typing import Any, Dict, List, Optional

import numpy as np

from backends.rooms import ROOMS, add_flags, backend_of, given_flags, open_backend
from contract.arguments import HelpFormatter, at_least, parse
from contract.backend import Backend, check_backend, infer_rows
from contract.errors import UserError
from contract.files import make_folder, remove_file, write_json
from contract.locks import hold
from contract.manifest import settings_difference
from contract.onnx_file import sha256_of_model
from contract.pixels import DTYPES, FLOAT32
from contract.progress import Progress
from contract.records import protect, read_record
from reid.bins import open_dumps, settings_of_dumps, write_bins
from reid.crops import RESIZES
from reid.export import DEFAULT_CONFIG
from reid.features import RECORD, SUFFIX, feature_files, write_feature
from reid.images import Crop, crops_of_boxes, crops_of_images, read_row
from reid.ranking import normalise
from reid.spec import ReidSpec, load_spec

DEFAULT_BATCH = 16  # of a model that takes any
ROWS_AT_ONCE = 256  # of dumps
MODES = ("model", "input", "output"), ("input", "bins"), ("bins", "dumps", "output")


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m reid.extract", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--model", "--model-path", "--model-def", "--model-weights",
                        help=".onnx, .prototxt, .pth or another that a backend runs")
    parser.add_argument("--backend", choices=sorted(ROOMS), help="what runs the model; by its suffix without")
    parser.add_argument("--input", nargs="+", help="images, or folders of them")
    parser.add_argument("--detections", help="COCO results of people in the photos of --input, one folder: a feature "
                        "for each box")
    parser.add_argument("--output", help="folder of the features")
    parser.add_argument("--bins", help="folder of bins: to be written of --input without --model, or those of --dumps")
    parser.add_argument("--dumps", help="folder of what a model has made of --bins: features of these")
    parser.add_argument("--dtype", choices=DTYPES, default=FLOAT32, help="of the bins that are written")
    parser.add_argument("--config-file", default=DEFAULT_CONFIG, help="YAML of the model, ours or FastReID's")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="changes to it")
    parser.add_argument("--height", type=at_least(1), help="of the input; the config's if not given")
    parser.add_argument("--width", type=at_least(1), help="of the input; the config's if not given")
    parser.add_argument("--resize", choices=sorted(RESIZES), help="pil as FastReID evaluates, cv2 as its demo and "
                        "deploy scripts; the config's if not given")
    parser.add_argument("--raw", action="store_true", help="leave features at the length that the model gives them")
    parser.add_argument("--batch-size", type=at_least(1), help=f"people at once; the model's own, or {DEFAULT_BATCH}; "
                        "people in a bin, or 1")
    parser.add_argument("--device", help="cpu, cuda, 0; the backend's own choice if not given")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="threads that read images")
    parser.add_argument("--replace", action="store_true", help="remove bins or features of other settings; without it "
                        "they are an error")
    add_flags(parser)
    args = parse(parser, argv)
    mode = tuple(name for name in ("model", "input", "bins", "dumps", "output") if getattr(args, name) is not None)
    if mode not in MODES:
        parser.error("expected --model, --input and --output; or --input and --bins to write bins; or --bins, --dumps "
                     "and --output for features of dumps")
    return args


def read_spec(args: argparse.Namespace) -> ReidSpec:
    spec = load_spec(args.config_file, args.opts)
    return dataclasses.replace(spec, geometry=args.resize or spec.geometry, input_size=(
        args.height or spec.input_size[0], args.width or spec.input_size[1]))


def read_crops(args: argparse.Namespace) -> List[Crop]:
    if not args.detections:
        return crops_of_images(args.input)
    if len(args.input) > 1 or not Path(args.input[0]).is_dir():
        raise UserError("--detections goes with one folder of photos as --input")
    return crops_of_boxes(args.input[0], args.detections)


def settings_of(args: argparse.Namespace, backend: Backend, spec: ReidSpec) -> Dict[str, Any]:
    """The settings that decide the features. Features of different settings must not be mixed."""
    return {"model": Path(args.model).name, "model_sha256": sha256_of_model(args.model), "backend": args.backend,
            **backend.describe(), "dtype": spec.dtype, **spec.of_data(), "normalised": not args.raw,
            **given_flags(args)}


def begin(output: Path, settings: Dict[str, Any], images: Dict[str, Any], replace: bool) -> List[str]:
    """Write the record; the names that have no feature of these settings yet. Raises UserError where the folder holds
    features of others, unless they are to be replaced."""
    path = output / RECORD
    earlier = read_record(path) or {}
    before = earlier.pop("images", {})
    protect(output, earlier or None, settings)
    difference = settings_difference(settings, earlier) if earlier else None
    if difference and not replace:
        raise UserError(f"{output}: holds features of other settings, {difference}. Name another --output, or let "
                        "--replace remove them")
    if difference:
        for file in feature_files(output):
            remove_file(file)
        before = {}
    missing = [name for name, image in images.items()
               if before.get(name) != image or not (output / f"{name}{SUFFIX}").exists()]
    for name in missing:
        remove_file(output / f"{name}{SUFFIX}")
    write_json(path, {**settings, "images": {**before, **images}})
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


def extract_images(args: argparse.Namespace) -> None:
    args.backend = args.backend or backend_of(args.model)
    spec, crops = read_spec(args), read_crops(args)
    with closing(open_backend(args.backend, args.model, args.device, spec, **given_flags(args))) as backend:
        spec = dataclasses.replace(spec, dtype=np.dtype(backend.input_dtype).name)
        check_backend(backend, args.model, spec)
        output = make_folder(args.output)
        with hold(output):
            images = {crop.name: crop.describe() for crop in crops}
            missing = set(begin(output, settings_of(args, backend, spec), images, args.replace))
            start = time.perf_counter()
            extract(backend, spec, [crop for crop in crops if crop.name in missing], args)
    seconds = time.perf_counter() - start
    print(f"{args.output}: {len(crops)} features of {spec.dim}, {len(crops) - len(missing)} kept"
          + (f", {len(missing) / seconds:.1f} per second" if missing else ""))


def extract_dumps(args: argparse.Namespace) -> None:
    images, reader = open_dumps(args.bins, args.dumps)
    names, output = list(images), make_folder(args.output)
    with hold(output):
        missing = set(begin(output, {**settings_of_dumps(reader), "normalised": not args.raw}, images, args.replace))
        for numbers in reader.manifest.chunks(ROWS_AT_ONCE):
            features = reader.read_all(numbers)
            for name, feature in zip(names[reader.manifest.rows_of(numbers)], features if args.raw
                                     else normalise(features)):
                if name in missing:
                    write_feature(output, name, feature)
    print(f"{output}: {len(names)} features of {reader.shape[0]}, {len(names) - len(missing)} kept")


def main() -> None:
    args = parse_args()
    if args.dumps:
        extract_dumps(args)
    elif args.bins:
        spec, crops = dataclasses.replace(read_spec(args), dtype=args.dtype), read_crops(args)
        written = write_bins(args.bins, crops, spec, args.batch_size or 1, args.workers, args.replace)
        print(f"{args.bins}: {len(crops)} people, {written} bins written")
    else:
        extract_images(args)


if __name__ == "__main__":
    sys.exit(exit_code(main))
