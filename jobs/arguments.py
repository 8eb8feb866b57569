"""The command line of run.py and of scripts/, and the check that its files exist before any work begins."""
from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from contract.arguments import DEFAULT_CONFIG, at_least
from contract.errors import UserError
from contract.version import VERSION
from jobs.targets import runners_of

# Paths that an option names where the user does not, from the project's root; with --demo the second ones.
DEFAULTS = {"dataroot": Path("data/coco"), "checkpoint": Path("models/fast_res50_256x192.pth"),
            "cfg": Path(DEFAULT_CONFIG), "weights": Path("models/yolov3-spp.weights"),
            "yolo_cfg": Path("configs/yolov3-spp.cfg")}
DEMO = {"dataroot": Path("data/demo"), "checkpoint": Path("demo/fastpose_small.pth"),
        "cfg": Path("configs/demo_fastpose.yaml"), "weights": Path("demo/yolov3_demo.weights"),
        "yolo_cfg": Path("configs/demo_yolov3_tiny.cfg")}
# --network -> the paths that are others than those of fastpose: without and with --demo.
FASTPOSE, HOURGLASS = "fastpose", "hourglass"
OF_NETWORK: Dict[str, Tuple[Dict[str, Path], Dict[str, Path]]] = {
    FASTPOSE: ({}, {}),
    HOURGLASS: ({"checkpoint": Path("models/hourglass52_coco_256x256.pth"),
                 "cfg": Path("configs/hourglass52_coco_256x256.yaml")},
                {"checkpoint": Path("demo/hourglass_small.pth"), "cfg": Path("configs/demo_hourglass.yaml")})}
DEMO_CALIBRATION = Path("data/demo_calibration")
PHOTOGRAPHS, ANNOTATIONS = "val2017", "annotations/person_keypoints_val2017.json"  # in --dataroot
NOT_SCORED = "train2017"  # there too, or of the demo rendered with another seed
ANNOTATED, DETECTED = "annotated", "detected"
# A target takes those of its room.
OF_TARGETS = ("runner", "precision", "float_layers", "device", "gears", "precision_mode")
OF_SWEEP = ("photographs", "repeat")
NOT_OF_SWEEP = ("targets", "validate", "quick", "images", "annotations", "model", "detector_model", "detections",
                "gt_boxes", "person_class", "person_category", "boxes", "limit", "uint8", "one_pass", "no_flip",
                "calibration", "distributed", "workers", "runner", "precision", "float_layers", "gears",
                "precision_mode")
SWEEP_DEFAULTS = {"photographs": 128, "repeat": 5, "device": "cuda:0"}
BATCH, SWEEP_BATCHES = 16, (1, 2, 4, 8, 16, 32, 64)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Paths of the user are made absolute; defaults stay relative to the project's root."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        check(args)
        args.batch = batches(args)
    except UserError as error:
        parser.error(str(error))
    complete(args)
    return args


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="run.py --targets TARGET ... [--batch N ...] [options], or bash scripts/run_bs16.sh TARGET [options]",
        description="From photos and a checkpoint to a row of the result table, for each target and batch size.\n"
                    "Stages whose inputs have not changed are skipped.", epilog=TARGETS_HELP)
    _add_what_to_do(parser.add_argument_group("what to do"))
    inputs = parser.add_argument_group("inputs")
    add_inputs(inputs)
    _add_kinds(inputs)
    _add_target_options(parser.add_argument_group("options of targets; each applies to the targets that take it"))
    _add_cluster(parser.add_argument_group("many devices, with Ray: see docs/scale.md"))
    _add_sweep(parser.add_argument_group("the sweep of an NVIDIA GPU"))
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    return parser


TARGETS_HELP = """targets:
  cpu               ONNX Runtime on this machine's CPU
  openvino          OpenVINO on this machine's CPU, or Intel's GPU or NPU
  ncnn              ncnn on this machine's CPU
  pytorch           the checkpoint itself on the CPU, which the others are compared with
  gpu               TensorRT on this machine's NVIDIA GPU, or PyTorch where TensorRT is not installed
  Ascend310P3, ...  this Ascend NPU; python3 -m ascend.soc prints its name
  cpu-int8, ...     any of these except pytorch, in int8; can be in one table with the others

exit codes: 0 done, and with --validate all agree; 1 a target differs; 2 something is missing or wrong, explained in one
line; 130 and 143 interrupted: run the same command again and it continues"""


def _add_what_to_do(group: Any) -> None:
    group.add_argument("--targets", nargs="*", metavar="TARGET", help="where to run; see below")
    group.add_argument("--batch", action="append", nargs="+", metavar="N",
                       help=f"batch sizes, such as 1 16 or 1,16 (default: {BATCH}; of --sweep "
                            f"{','.join(map(str, SWEEP_BATCHES))})")
    group.add_argument("--validate", action="store_true", help="compare every target with PyTorch, on the same bins; "
                       "the table is also in WORK/validation.md")
    group.add_argument("--quick", action="store_true", help="with --validate: only decide whether the AP of every "
                       "target lies within 0.003 of PyTorch's, with an error of 5 %%, from no more photos than that "
                       "takes. The table is also in WORK/validation_quick.md")
    group.add_argument("--check", action="store_true", help="only examine the machine")
    group.add_argument("--plan", action="store_true", help="only print the stages, what they read and what they write")
    group.add_argument("--quiet", action="store_true", help="print only the table, without progress bars and stages")
    group.add_argument("--setup", action="store_true", help="first install the missing Python packages with "
                       "scripts/setup.sh")


def add_inputs(group: Any) -> None:
    """The options that pack.py takes too."""
    group.add_argument("--demo", action="store_true", help="use the synthetic people and the small network that "
                       "come with this project")
    group.add_argument("--network", choices=list(OF_NETWORK), default=FASTPOSE, help="network whose checkpoint and "
                       "config are the defaults (default: %(default)s)")
    group.add_argument("--dataroot", type=path, metavar="DIR", help="COCO: annotations/ and val2017/"
                       + _default("dataroot"))
    group.add_argument("--images", type=path, metavar="DIR", help="photos to use instead of val2017/ of --dataroot")
    group.add_argument("--annotations", type=path, metavar="FILE", help="annotations to use instead of those of "
                       "--dataroot")
    group.add_argument("--checkpoint", type=path, metavar="FILE", help="trained weights" + _default("checkpoint"))
    group.add_argument("--cfg", "--config", type=path, metavar="FILE", help="config of the model" + _default("cfg"))
    group.add_argument("--weights", type=path, metavar="FILE", help="YOLOv3 weights that find the people"
                       + _default("weights"))
    group.add_argument("--yolo_cfg", type=path, metavar="FILE", help="darknet's cfg of these weights"
                       + _default("yolo_cfg"))
    group.add_argument("--person_class", type=at_least(0), metavar="N", help="class number of people in --weights, "
                       "counted from 0 (default: the class called person in the .names file beside --yolo_cfg; else 0)")
    group.add_argument("--model", type=path, metavar="FILE", help="run this .onnx, .engine, .om, .xml or .param; "
                       "no checkpoint is needed")
    group.add_argument("--detector_model", type=path, metavar="FILE", help="find people with this .onnx, .engine or "
                       ".om; no weights are needed")
    group.add_argument("--detections", type=path, metavar="FILE", help="use the boxes of another detector, as COCO "
                       "results JSON")
    group.add_argument("--person_category", type=int, metavar="N", help="category_id of a person in --detections "
                       "(default: 1)")
    group.add_argument("--gt_boxes", action="store_true", help="use the annotated boxes instead of detecting people")
    group.add_argument("--calibration", type=path, metavar="DIR", help="int8: photos, or bins of preprocess.py, to "
                       f"calibrate on; they must not be scored (default: {NOT_SCORED} of --dataroot)")
    group.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N photos")
    group.add_argument("--one_pass", action="store_true", help="use a model that takes bytes, mirrors them itself and "
                       "gives keypoints: there are no mirrored bins, and the output is 204 bytes per person")
    group.add_argument("--no_flip", action="store_true", help="no flip test: half the work, and less accurate")
    group.add_argument("--work", type=path, metavar="DIR", help="folder for bins, models and results (default: "
                       "runs/NAME, with the name of the checkpoint or model)")


def _add_kinds(group: Any) -> None:
    group.add_argument("--boxes", nargs="+", choices=(ANNOTATED, DETECTED), help="which boxes to use; with both, one "
                       f"table shows the AP of each (default: {DETECTED})")
    group.add_argument("--uint8", action="store_true", help="use bins of bytes, a quarter of the size; the model "
                       "normalises them")


def _add_target_options(group: Any) -> None:
    group.add_argument("--runner", metavar="NAME", help="gpu: tensorrt, pytorch or trtexec; Ascend: ais_bench "
                       "or acl (default: the first that is installed)")
    group.add_argument("--device", metavar="LIST", help="gpu, Ascend: ids, such as 0 or 0,1,2,3 (default: 0); "
                       "openvino: cpu, GPU, NPU (default: cpu)")
    group.add_argument("--precision", metavar="P", help="cpu: fp32, int8 (default: fp32); openvino, ncnn: fp32, bf16, "
                       "fp16, int8 (default: fp32); gpu: fp32, fp16, int8 of TensorRT, bf16 of PyTorch (default: "
                       "fp16); Ascend: int8")
    group.add_argument("--float_layers", metavar="P", help="openvino in int8: precision of the layers that stay float: "
                       "fp32, bf16, fp16 (default: fp32)")
    group.add_argument("--deploy_cfg", type=path, metavar="FILE", help="ncnn: mmdeploy's config; sets the "
                       "precision")
    group.add_argument("--vulkan", action="store_true", help=argparse.SUPPRESS)  # of mmdeploy's users
    group.add_argument("--precision_mode", metavar="M", help="Ascend: atc's option of this name, such as "
                       "allow_fp32_to_fp16 (default: atc's own default, force_fp16)")
    group.add_argument("--gears", metavar="LIST", help="Ascend: build one .om that takes these batch sizes, such as "
                       "1,4,8,16")


def _add_cluster(group: Any) -> None:
    group.add_argument("--distributed", choices=("local", "auto"), help="find people and run the model in parts, one "
                       "per NPU or GPU, on this machine (local) or on the Ray cluster that it belongs to (auto)")
    group.add_argument("--workers", type=at_least(1), metavar="N", help="number of parts (default: one per NPU or GPU, "
                       "else one per machine)")


def _add_sweep(group: Any) -> None:
    group.add_argument("--sweep", action="store_true", help="only time TensorRT and PyTorch on the same inputs; "
                       f"--device is then PyTorch's (default: {SWEEP_DEFAULTS['device']}), and TensorRT uses GPU 0")
    group.add_argument("--photographs", type=at_least(1), metavar="N", help="time crops of the annotated people on the "
                       f"first N photos (default: {SWEEP_DEFAULTS['photographs']})")
    group.add_argument("--repeat", type=at_least(1), metavar="N", help="interleaved rounds (default: "
                       f"{SWEEP_DEFAULTS['repeat']})")


def requirements_of(args: argparse.Namespace) -> str:
    """The requirements file of a command. It needs torch to export, and for the target pytorch."""
    if args.sweep:
        return "requirements-bench.txt"
    if args.distributed:
        return "requirements-distributed.txt"
    finds_people = DETECTED in args.boxes and not (args.detections or args.detector_model)
    exports = not args.model or finds_people and args.targets[0] != "cpu"  # on a CPU the weights are run as they are
    in_torch = args.validate or "pytorch" in (args.runner, *args.targets)
    return "requirements.txt" if exports or in_torch else "requirements-no-torch.txt"


def path(text: str) -> Path:
    """Absolute, because stages run in the project's root and the user may not be there."""
    return Path(os.path.abspath(text))


def _default(name: str) -> str:
    return f" (default: {DEFAULTS[name]})"


def check(args: argparse.Namespace) -> None:
    """Raises UserError for options that do not go together."""
    given = {name for name, value in vars(args).items() if value is not None and value is not False}
    if args.sweep:
        _refuse(given, NOT_OF_SWEEP, "with --sweep")
    else:
        _refuse(given, OF_SWEEP, "without --sweep")
        if not args.targets:
            raise UserError("expected --targets, such as cpu; --help lists them")
        for target in args.targets:
            runners_of(target)
    if args.vulkan:
        raise UserError("--vulkan: ncnn runs on the CPU here; its Vulkan code is not offered, because it could not be "
                        "checked on a GPU. Leave the option out")
    if args.demo:
        _refuse(given, (*DEMO, "images", "annotations"), "with --demo, which brings its own")
    for one, other in (("model", "checkpoint"), ("detector_model", "weights"), ("gt_boxes", "detections"),
                       ("gt_boxes", "boxes"), ("validate", "model"), ("validate", "images"),
                       ("validate", "annotations"), ("deploy_cfg", "precision"), ("person_class", "detections"),
                       ("person_class", "detector_model"), ("person_class", "gt_boxes"), ("quick", "limit")):
        if {one, other} <= given:
            raise UserError(f"--{one} and --{other} do not go together")
    for one in {"detections", "person_class"} & given if args.boxes and DETECTED not in args.boxes else ():
        raise UserError(f"--{one} and --boxes annotated do not go together")
    if args.quick and (not args.validate or len(set(args.boxes or ())) > 1):
        raise UserError("--quick needs --validate, and one kind of --boxes: it decides whether the AP of every target "
                        "lies near PyTorch's")
    if "person_category" in given and not args.detections:
        raise UserError("--person_category needs --detections: it names one of the categories of that file")


def _refuse(given: set, names: Any, when: str) -> None:
    wrong = [f"--{name}" for name in names if name in given]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: not {when}")


def batches(args: argparse.Namespace) -> Tuple[int, ...]:
    """1 16, "1 16" and 1,16 are the same."""
    if not args.batch:
        return SWEEP_BATCHES if args.sweep else (BATCH,)
    if len(args.batch) > 1:
        raise UserError("--batch is given twice. The scripts run_bs*.sh and run_all_batches.sh already give it")
    words = [word for text in args.batch[0] for word in re.split("[ ,]+", text.strip())]
    if not all(re.fullmatch("[1-9][0-9]*", word) for word in words):
        raise UserError(f"--batch is {' '.join(args.batch[0])}, expected whole numbers of at least 1, such as 1 16")
    return tuple(dict.fromkeys(map(int, words)))


def complete(args: argparse.Namespace) -> None:
    defaults: Dict[str, Any] = {**(DEMO if args.demo else DEFAULTS), **OF_NETWORK[args.network][args.demo],
                                **(SWEEP_DEFAULTS if args.sweep else {})}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.calibration is None:
        args.calibration = DEMO_CALIBRATION / PHOTOGRAPHS if args.demo else args.dataroot / NOT_SCORED
    if args.sweep and args.demo:
        args.dataroot = Path("data/demo_sweep")
    args.boxes = list(dict.fromkeys(args.boxes or ([ANNOTATED] if args.gt_boxes else [DETECTED])))
    if args.work is None:
        kind = "validation_" if args.validate else "sweep_" if args.sweep else ""
        limit = f"_limit{args.limit}" if args.limit else ""
        args.work = Path("runs") / f"{kind}{(args.model or args.checkpoint).stem}{limit}"


def _data(args: argparse.Namespace) -> List[Tuple[Path, str]]:
    """The photos, and the annotations if the job needs them: keypoints do not, only their score does."""
    needed = [(args.images, "--images") if args.images else (args.dataroot / PHOTOGRAPHS, "--dataroot")]
    if args.annotations:
        needed.append((args.annotations, "--annotations"))
    elif ANNOTATED in args.boxes or args.sweep or args.validate:
        needed.append((args.dataroot / ANNOTATIONS, "--dataroot"))
    return needed


def check_files(args: argparse.Namespace, root: Path) -> None:
    """Raises UserError that names every file of the entire job that is not there, with its option."""
    finds_people = args.sweep or DETECTED in args.boxes and not args.detections
    needed = {"cfg": args.cfg, **({"model": args.model} if args.model else {"checkpoint": args.checkpoint})}
    if finds_people:
        needed["yolo_cfg"] = args.yolo_cfg
        needed.update({"detector_model": args.detector_model} if args.detector_model else {"weights": args.weights})
    if args.detections:
        needed["detections"] = args.detections
    missing = [f"{file} (--{option})" for option, file in needed.items() if not (root / file).is_file()]
    if not args.demo:
        missing += [f"{folder} ({option})" for folder, option in _data(args) if not (root / folder).exists()]
    if missing:
        raise UserError(f"not there: {', '.join(missing)}. Name them with these options"
                        + ("" if finds_people is False or args.demo else "; or give --detections FILE with the boxes "
                           "of another detector; --demo needs no files"))
