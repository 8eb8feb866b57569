"""Peak memory of preprocess.py, infer.py, postprocess.py and predict.py with a one-pass model, for few people and many.

    python3 benchmarks/memory.py --dataroot data/demo

Photos of the data root are copied under new names, with random boxes on each, until there are as many people. What
grows are a person's records: columns of the manifest, names in the summary, keypoints as JSON.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from benchmarks.stages import BOXES_PER_PHOTOGRAPH, make_data_set, run  # noqa: E402
from contract.arguments import HelpFormatter, at_least  # noqa: E402
from contract.files import make_folder  # noqa: E402
from contract.tables import format_table  # noqa: E402

DEMO, DEMO_CFG = "demo/fastpose_small.pth", "configs/demo_fastpose.yaml"
BATCH = "16"


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--dataroot", type=Path, default=Path("data/demo"), help="photos and annotations")
    parser.add_argument("--checkpoint", default=DEMO, help="trained weights, or an ONNX file that gives heatmaps")
    parser.add_argument("--cfg", default=DEMO_CFG, help="its config")
    parser.add_argument("--people", type=at_least(1), nargs=2, default=[1000, 20000], help="few, and many")
    parser.add_argument("--work", type=Path, help="where 150 kB a person are written (default: a temporary folder)")
    return parser.parse_args(argv)


def peaks(args: argparse.Namespace, model: Path, people: int, work: Path) -> Dict[str, float]:
    """MiB by program, for as many people."""
    make_data_set(args.dataroot, make_folder(work), -(-people // BOXES_PER_PHOTOGRAPH))
    bins, boxes = str(work / "prep"), str(work / "detections.json")
    data, one_pass = ["--dataroot", str(work)], ["--model", str(model), "--cfg", args.cfg]
    commands = [
        ["preprocess.py", *data, "--cfg", args.cfg, "--detections", boxes, "--dtype", "uint8", "--no_flip", "--output",
         bins],
        ["infer.py", *one_pass, "--input", bins, "--output", str(work), "--output_dirname", "dumps", "--batchsize",
         BATCH],
        ["postprocess.py", *data, "--cfg", args.cfg, "--manifest", f"{bins}/manifest.json", "--dump_dir",
         str(work / "dumps")],
        ["predict.py", *one_pass, "--indir", str(work / "val2017"), "--detections", boxes, "--no-save_img", "--output",
         str(work / "predicted")]]
    return {command[0]: run(command)[1] for command in commands}


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        model = Path(folder) / "model.onnx"
        run(["pth2onnx.py", args.cfg, args.checkpoint, str(model), "--one_pass"])
        few, many = (peaks(args, model.with_name("model_one_pass.onnx"), people, Path(folder) / str(people))
                     for people in args.people)
    more = args.people[1] - args.people[0]
    rows = [[name, f"{few[name]:.0f}", f"{many[name]:.0f}", f"{(many[name] - few[name]) * 2 ** 20 / more:.0f}"]
            for name in few]
    columns = ["program", *(f"MiB, {people:,} people" for people in args.people), "bytes per person more"]
    print(format_table(columns, rows))


if __name__ == "__main__":
    sys.exit(exit_code(main))
