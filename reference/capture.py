"""Run AlphaPose's own validate.py, and keep what goes into its network and what comes out.

    python3 -m reference.capture ALPHAPOSE --cfg CONFIG.yaml --checkpoint fast_res50_256x192.pth --inputs FOLDER \\
        --output FOLDER

ALPHAPOSE is a tree with AlphaPose.patch that the running Python has installed. The script runs unchanged; a hook on the
network sees every batch, which validate.py shows it twice: normal, then mirrored.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import hashlib
import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from contract.arguments import HelpFormatter
from contract.dumps import dump_name
from contract.files import make_folder, read_json, remove_file, sha256_of_file, write_file, write_json
from contract.manifest import remove_bins
from contract.spec import read_yaml

PASSES = ("annotated", "detected")  # boxes, in the order in which validate.py takes them
CAPTURED = "captured.json"
OWN_CFG = "configs/coco/resnet/256x192_res50_lr1e-3_1x.yaml"  # of AlphaPose


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("alphapose", help="tree of the pinned commit with AlphaPose.patch")
    parser.add_argument("--cfg", required=True, help="AlphaPose's YAML")
    parser.add_argument("--checkpoint", required=True, help="trained weights")
    parser.add_argument("--inputs", required=True, help="folder that reference.inputs made")
    parser.add_argument("--output", required=True, help="folder for heatmaps, digests of crops and keypoints")
    parser.add_argument("--flip_shift", choices=("clean", "original"), default="clean", help="as AlphaPose.patch says")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the network runs")
    parser.add_argument("--batch", type=int, default=16, help="people per batch")
    return parser.parse_args(argv)


class Recorder:
    """Writes a dump for every person that the network sees, under `output`/PASS, and remembers the crops' digests."""

    def __init__(self, output: Path):
        self.output = output
        self.crops: Dict[str, Dict[str, List[str]]] = {}

    def begin(self) -> None:
        """A data set is made: the next pass over people begins."""
        name = PASSES[len(self.crops)]
        self.crops[name] = {"": [], "_flip": []}
        for flip in self.crops[name]:
            remove_bins(make_folder(self.output / name / f"heatmaps{flip}"))  # of another run

    def keep(self, network: Any, inputs: tuple, heatmaps: Any) -> None:
        """torch's forward hook. Batches alternate: normal after as many normal as mirrored crops, else mirrored."""
        name = PASSES[len(self.crops) - 1]
        normal, mirrored = self.crops[name].values()
        flip, digests = ("", normal) if len(normal) == len(mirrored) else ("_flip", mirrored)
        for crop, stack in zip(inputs[0].cpu(), heatmaps.cpu()):
            path = self.output / name / f"heatmaps{flip}" / dump_name(f"{len(digests):012d}.bin")
            write_file(path, stack.contiguous().numpy())
            digests.append(hashlib.sha256(crop.contiguous().numpy()).hexdigest())


def settings_of(args: argparse.Namespace) -> Dict[str, Any]:
    """What the captured values depend on."""
    inputs = Path(args.inputs)
    files = {"validate": Path(args.alphapose) / "scripts" / "validate.py", "cfg": args.cfg,
             "checkpoint": args.checkpoint, "detections": inputs / "detections.json",
             "annotations": inputs / "annotations" / "person_keypoints_val2017.json"}
    stamp = Path(args.alphapose) / "stamp"  # commit and patch, as scripts/reference.sh leaves them
    return {"tree": stamp.read_text() if stamp.exists() else None,
            "sha256": {name: sha256_of_file(path) for name, path in files.items()}, "flip_shift": args.flip_shift,
            "photographs": os.path.realpath(inputs / "val2017"), "device": args.device, "batch": args.batch}


def complete_cfg(cfg: str, alphapose: str, output: Path) -> str:
    """A file that AlphaPose takes: `cfg` itself where it is one, else its own with what `cfg` says of the model.

    A config of this project has no data set, and keys that AlphaPose does not know."""
    ours = read_yaml(cfg)
    if "DATASET" in ours:
        return cfg
    theirs = read_yaml(os.path.join(alphapose, OWN_CFG))
    merged = {section: {**values, **ours.get(section, {})} for section, values in theirs.items()}
    write_file(output / "cfg.yaml", json.dumps(merged).encode())  # JSON is YAML
    return str(output / "cfg.yaml")


def capture(args: argparse.Namespace) -> Dict[str, Any]:
    """Run validate.py in `args.output`, where it writes exp/json/; return its two AP and the digests of all crops."""
    builder = importlib.import_module("alphapose.models.builder")
    build_network, build_dataset = builder.build_sppe, builder.build_dataset
    alphapose, inputs, checkpoint, cfg = map(os.path.abspath, (args.alphapose, args.inputs, args.checkpoint, args.cfg))
    recorder = Recorder(Path(args.output).absolute())

    def hooked_network(*rest: Any, **options: Any) -> Any:
        network = build_network(*rest, **options)
        network.register_forward_hook(recorder.keep)
        return network

    def announced_dataset(dataset: Any, *rest: Any, **options: Any) -> Any:
        recorder.begin()
        dataset.DET_FILE = f"{inputs}/detections.json"
        return build_dataset(dataset, *rest, **options)

    builder.build_sppe, builder.build_dataset = hooked_network, announced_dataset
    make_folder(recorder.output / "exp" / "json")
    cfg = complete_cfg(cfg, alphapose, recorder.output)
    os.chdir(recorder.output)
    sys.argv = ["validate.py", "--cfg", cfg, "--checkpoint", checkpoint, "--dataroot", inputs, "--flip-test",
                "--flip_shift", args.flip_shift, "--batch", str(args.batch), "--num_workers", str(os.cpu_count()),
                "--gpus", "0" if args.device == "cuda" else "-1"]
    result = runpy.run_path(f"{alphapose}/scripts/validate.py", run_name="__main__")
    return {"AP": {"annotated": float(result["gt_AP"]), "detected": float(result["detbox_AP"])},
            "crops": recorder.crops}


def main() -> None:
    args = parse_args()
    record, settings = Path(args.output).absolute() / CAPTURED, settings_of(args)
    if record.exists() and read_json(record, "captured").get("settings") == settings:
        print(f"{args.output}: kept, of the same inputs")
        return
    remove_file(record)
    write_json(record, {"settings": settings, **capture(args)})


if __name__ == "__main__":
    sys.exit(exit_code(main))
