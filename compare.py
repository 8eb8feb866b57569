"""Say whether results of two devices agree, at which stage they begin to differ, and the likely cause.

    python3 compare.py cpu=results/cpu npu=results/bs16 --manifest prep_data/manifest.json --dataroot ./data/coco
    python3 compare.py torch=features/torch onnx=features/onnx --gate fp32
    python3 compare.py A_score/keypoints.json B_score/keypoints.json --dataroot ./data/coco --explain

The first is the reference. Each is a folder of dumps, a keypoints.json, or LABEL=DUMPS[,DUMPS_OF_MIRRORED][,KEYPOINTS].
Exit code 0: all agree with the first; 1: one differs; 2: bad input.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Union

from comparison.compare import compare, describe, format_comparison
from comparison.decoded import require_finite
from comparison.folders import agree, check_folders, measure_folders
from comparison.gates import FASTREID, GATES, LIMITS, choose_limits
from comparison.limits import number
from comparison.results import (
    Options,
    Result,
    anonymous_manifest,
    label_apart,
    open_results,
    parse_result,
    read_results,
)
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least, parse
from contract.errors import DIFFERS, DONE, UserError
from contract.files import make_folder, require_writable, write_json
from contract.manifest import Manifest
from contract.spec import Spec, load_spec
from contract.tables import format_table
from pose.heatmaps import FLIP_SHIFTS
from pose.people import load_people, spec_of
from pose.spec import PoseSpec
from pose.spec import load_spec as load_pose_spec

if TYPE_CHECKING:
    from comparison.causes.features import FeatureRerun
    from comparison.causes.rerun import Rerun

ONLY_VALUES = ("tensors",)  # levels of a model that finds no joints, such as a detector
OF_PEOPLE = ("dataroot", "explain", "model", "input", "json", "report", "limit")
REPLICATES = 500  # the ends of the interval then move by about an eighth of the standard deviation from seed to seed


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="limits: " + "; ".join(
        f"{name}: {limit.meaning}" for name, limit in LIMITS.items()),
                                     formatter_class=HelpFormatter)
    parser.add_argument("results", nargs="+", metavar="[LABEL=]RESULT",
                        help="dumps, keypoints.json, DUMPS,DUMPS_OF_MIRRORED,KEYPOINTS.json, or a folder of ReID "
                             "features; the reference first")
    parser.add_argument("--manifest", help="manifest.json beside the bins; without it dumps have no photos and "
                                           "boxes, and get no score")
    parser.add_argument("--dataroot", help="folder with annotations/, for the COCO numbers; without it there are none")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="read without --manifest only; a detector's .cfg "
                        "compares the values of its dumps")
    parser.add_argument("--flip_shift", choices=sorted(FLIP_SHIFTS), default="clean", help="as in postprocess.py")
    parser.add_argument("--gate", choices=[*GATES, FASTREID], default="fp16", help="set of limits that the results "
                        "must keep; fastreid: numpy's allclose of ReID features and nothing else")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE",
                        help="replace one limit, such as argmax=0.95")
    parser.add_argument("--atol", type=float, help="an element mismatches beyond both tolerances (default: the gate's)")
    parser.add_argument("--rtol", type=float, help="relative to the reference (default: the gate's)")
    parser.add_argument("--bootstrap", type=at_least(0), default=REPLICATES,
                        help="replicates of the interval; 0 for none")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--explain", action="store_true", help="test what may be wrong against the data")
    parser.add_argument("--model", help="with --explain: ONNX file for float32 bins, which is run on the CPU to find "
                        "faults of the input")
    parser.add_argument("--input", help="with --model: folder of the normal bins, or of the images of ReID features, "
                        "that the reference was made from")
    parser.add_argument("--json", help="write everything that was measured into this file")
    parser.add_argument("--report", help="write one self-contained HTML page")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="language of --report")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="threads that read and measure")
    args = parse(parser, argv)
    if len(args.results) < 2:
        parser.error("expected at least two results to compare")
    if bool(args.model) != bool(args.input):
        parser.error("--model and --input go together")
    return args


def open_manifest(args: argparse.Namespace, results: List[Result]) -> Optional[Manifest]:
    if args.manifest:
        return load_people(args.manifest)
    unnamed = [result for result in results if result.keypoints_path is None]
    if args.dataroot and unnamed:
        raise UserError(f"{unnamed[0].label}: dumps get a COCO score only with the --manifest of their bins. Give it, "
                        "or leave out --dataroot")
    has_dumps = any(result.folders for result in results)
    return anonymous_manifest(results, load_pose_spec(args.cfg)) if has_dumps else None


def check_kind(results: List[Result], args: argparse.Namespace) -> None:
    """Refuse flags that are of the other kind of results."""
    if all(result.features for result in results) and (args.report or args.manifest or args.dataroot):
        raise UserError("ReID features have no photos and no COCO score: leave out --report, --manifest and "
                        "--dataroot")
    if args.gate == FASTREID and not results[0].features:
        raise UserError(f"--gate {FASTREID} is for ReID features, which python3 -m reid.extract writes")


def open_model_of(results: List[Result], args: argparse.Namespace, spec: PoseSpec,
                  dataroot: Optional[Path]) -> Union[Rerun, FeatureRerun]:
    """--model, which makes what the reference is again."""
    if results[0].features:
        from comparison.causes.features import FeatureRerun

        return FeatureRerun(args.model, Path(args.input))
    from comparison.causes.rerun import open_rerun

    return open_rerun(args.model, Path(args.input), spec, dataroot)


def compare_values(args: argparse.Namespace, spec: Spec) -> int:
    """Of a model that finds no joints, all values of the dumps are compared, and nothing else."""
    if args.gate not in GATES:
        raise UserError(f"--gate {args.gate}: not for {args.cfg}, expected one of {', '.join(GATES)}")
    given = [f"--{name}" for name in OF_PEOPLE if getattr(args, name)]
    if given:
        raise UserError(f"{', '.join(given)}: not for {args.cfg}, whose model finds no joints")
    results = [parse_result(text) for text in args.results]
    label_apart(results)
    wrong = next((result.label for result in results if len(result.folders) != 1 or result.keypoints_path), None)
    if wrong is not None:
        raise UserError(f"{wrong}: expected one folder of dumps, as of {args.cfg}, whose model finds no joints")
    reference, measured = results[0].folders[0], {}
    for other in results[1:]:
        check_folders(other.folders[0], reference, spec)
        measured[other.label] = measure_folders(other.folders[0], reference, spec, args.gate)
    agreeing = [agree(values, args.gate) for values in measured.values()]
    print(format_table([f"against {results[0].label}", *next(iter(measured.values())), f"gate {args.gate}"],
                       [[label, *map(number, values.values()), "agrees" if same else "DIFFERS"]
                        for same, (label, values) in zip(agreeing, measured.items())]))
    return DONE if all(agreeing) else DIFFERS


def main() -> int:
    args = parse_args()
    if not args.manifest and load_spec(args.cfg).levels == ONLY_VALUES:
        return compare_values(args, load_spec(args.cfg))
    limits = choose_limits(args.gate, args.limit, args.atol, args.rtol)
    results = [parse_result(text) for text in args.results]
    label_apart(results)
    check_kind(results, args)
    manifest = open_manifest(args, results)
    spec = spec_of(manifest) if manifest else load_pose_spec(args.cfg)
    open_results(results, manifest)
    options = Options(spec, limits, args.flip_shift, args.bootstrap, args.seed, args.workers)
    dataroot = Path(args.dataroot) if args.dataroot else None
    rerun = open_model_of(results, args, spec, dataroot) if args.explain and args.model else None
    for output in filter(None, (args.json, args.report)):
        require_writable(Path(output).parent)
        make_folder(Path(output).parent)
    for reader in (reader for result in results for reader in result.readers if args.explain):
        require_finite(reader, args.workers)
    read_results(results, options, dataroot)
    comparisons = [compare(results[0], other, options, args.explain, rerun) for other in results[1:]]
    print("\n\n".join(map(format_comparison, comparisons)))
    if args.json:
        write_json(args.json, describe(comparisons, results, limits))
    if args.report:
        from comparison.page.page import write_page

        write_page(args.report, comparisons, results, options, args.manifest, args.dataroot, args.language)
    return DONE if all(comparisons) else DIFFERS


if __name__ == "__main__":
    sys.exit(exit_code(main))
