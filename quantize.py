"""Make an int8 file of a network: calibrate it, keep the layers that lose most in float, measure loss and speed.

    python3 quantize.py models/fast_res50_256x192.onnx --input ./prep_data_train

writes models/fast_res50_256x192_int8.onnx and its record beside it. Calibrate on other photos than those that are
scored. With --validation, bins whose photos have annotations, --max_drop bounds the loss of AP.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from contract.arguments import HelpFormatter, at_least, parse
from contract.bins import open_bins
from contract.errors import UserError
from contract.files import make_folder, sha256_of_rows, write_file
from contract.locks import hold
from contract.onnx_file import sha256_of_model
from contract.ranges import METHODS
from contract.records import read_record

BEST = "best"


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("model", help="float32 .onnx")
    parser.add_argument("--input", default="./prep_data_train", help="calibration data: a folder of bins, or of photos "
                        "(see --boxes)")
    parser.add_argument("--boxes", help="detections file of the people on the photos of --input; not needed for a "
                        "detector or a ReID network, which take whole photos")
    parser.add_argument("--output", help="int8 .onnx to write (default: NAME_int8.onnx beside the model)")
    parser.add_argument("--cfg", help="config of the model, for photos and for bins without a manifest")
    parser.add_argument("--people", type=at_least(1), default=256, help="how many crops, spread evenly over --input")
    parser.add_argument("--method", choices=[BEST, *METHODS], default=BEST, help="how the range of a tensor is chosen; "
                        "best: the method that changes the output least")
    parser.add_argument("--keep", nargs="*", metavar="LAYER", help="keep these layers in float, without measuring: "
                        "names, or the words upsampled, first, last, depthwise. With nothing after it, all layers "
                        "become int8 (default: measure, and keep the layers that lose most)")
    parser.add_argument("--keep_list", metavar="FILE", help="file with more layers for --keep, one per line")
    parser.add_argument("--target", choices=("cpu", "tensorrt", "ascend"), default="cpu", help="cpu: ONNX Runtime "
                        "and OpenVINO; tensorrt: symmetric, only the inputs of layers are quantised; ascend: only "
                        "convolutions, for ascend.quantize and AMCT")
    parser.add_argument("--validation", help="bins to measure the loss on (default: a few of --input)")
    parser.add_argument("--dataroot", default="./data/coco", help="folder with the annotations of --validation")
    parser.add_argument("--annotations", help="file of annotations, in place of that of DATAROOT")
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--max_drop", type=float, help="how many AP points may be lost on --validation; "
                       "a point is 0.01 AP")
    bound.add_argument("--max_drop_oks", type=float, help="how much OKS may be lost, compared with float32's "
                       "joints, such as 0.005")
    parser.add_argument("--report", metavar="FILE", help="write an HTML page about the search: tables, drop against "
                        "speed, and a contact sheet of the crops")
    parser.add_argument("--replace", action="store_true", help="make the file again if it already exists")
    args = parse(parser, argv)
    if args.max_drop is not None and not args.validation:
        parser.error("--max_drop needs --validation: bins whose photos have annotations")
    for name in ("max_drop", "max_drop_oks"):
        if getattr(args, name) is not None and not 0 <= getattr(args, name) < math.inf:
            parser.error(f"--{name} is {getattr(args, name)}, expected how much may be lost: 0 or more")
    if args.keep is not None and (args.max_drop is not None or args.max_drop_oks is not None):
        parser.error("--keep names the layers, and --max_drop has them searched. Give one of them")
    return args


def open_validation(args: argparse.Namespace) -> Any:
    """A function of float32's `infer` that gives the people to judge on, or None."""
    from pose.annotations import annotations_path, load_annotations
    from quantization.evaluation import Validation

    folder = args.validation or (args.input if args.max_drop_oks is not None else None)
    if folder is None:
        return lambda infer: None
    bins, path = open_bins(Path(folder), args.cfg), annotations_path(args.annotations or args.dataroot)
    wanted = args.validation and (args.annotations or args.max_drop is not None or path.exists())
    annotations = load_annotations(path) if wanted else None
    if args.max_drop is not None or args.max_drop_oks is not None:
        Validation.require_people(bins)
    return lambda infer: Validation(bins, annotations, infer)


def settings_of(args: argparse.Namespace, source: Any) -> Dict[str, Any]:
    """The settings that decide the content of the file. The file is kept if all of them are the same."""
    names = ("people", "method", "keep", "target", "max_drop", "max_drop_oks", "validation", "dataroot", "annotations")
    return {"data": source.origin(), **{name: getattr(args, name) for name in names}}


def run(args: argparse.Namespace) -> None:
    from detection.spec import DetectorSpec
    from quantization.crops import open_source
    from quantization.decision import record_of, save_decision
    from quantization.memory import Memory
    from quantization.quantizing import Options, output_of, quantize
    from quantization.report import describe, format_quantized, page
    from quantization.search import goal_of
    from quantization.sheet import contact_sheet

    if args.keep_list:
        args.keep = [*(args.keep or ()), *Path(args.keep_list).read_text().split()]
    output = Path(args.output or output_of(args.model))
    for path in filter(None, (output, args.report)):
        if os.path.exists(path) and not os.path.isfile(path):  # a folder, or a device, which would be replaced
            raise UserError(f"{path}: is no file that could be replaced. Give the name of one to write")
    if os.path.realpath(output) == os.path.realpath(args.model):
        raise UserError(f"{output}: is the model itself. Give another --output")
    source = open_source(args.input, args.cfg, args.boxes)
    sha256 = {"model": sha256_of_model(args.model), "data": sha256_of_rows([(source.origin(),)])}
    settings, record = settings_of(args, source), record_of(output)
    make_folder(output.parent)
    with hold(output):
        earlier = read_record(record) or {}
        if not args.replace and output.exists() and earlier.get("sha256", {}).get("model") == sha256["model"] and \
                earlier.get("settings") == settings and earlier.get("output_sha256") == sha256_of_model(output):
            print(f"{output}: kept, of the same model, crops and settings")
            return
        options = Options(args.people, None if args.method == BEST else args.method, args.keep,
                          ("last",) if isinstance(source.spec, DetectorSpec) else (), args.target,
                          goal_of(args.max_drop, args.max_drop_oks))
        memory = Memory(output, {"sha256": sha256, **settings})
        made = quantize(args.model, source, options, open_validation(args), sha256, memory)
        write_file(output, made.model.SerializeToString())
        command = shlex.join(["python3", "quantize.py", *sys.argv[1:]])
        save_decision(record, made.decision, {"settings": settings, "command": command,
                                              "output_sha256": sha256_of_model(output), **describe(made)})
        memory.forget()
    if args.report:
        make_folder(Path(args.report).parent)
        write_file(args.report, page(made, f"{output.name} against {Path(args.model).name}",
                                     contact_sheet(source, args.people)))
    print(format_quantized(made))
    print(f"\n{output}: {made.layers - len(made.decision.kept)} of {made.layers} layers in int8, "
          f"{output.stat().st_size} bytes instead of {os.path.getsize(args.model)}")


def main() -> None:
    run(parse_args())


if __name__ == "__main__":
    sys.exit(exit_code(main))
