"""Every way of a CPU beside AlphaPose's own validate.py, for FastPose-R50 with random weights or a trained network.

    python3 benchmarks/one_pass.py --original ALPHAPOSE --original_python ENV/bin/python

The table of `bench.py --target cpu`, with a row of the original where its tree and its Python are given (`bash
scripts/reference.sh` makes both). The original runs over annotated boxes and then over detections, and both are timed;
its bytes stay in memory. Without --checkpoint the weights are random, so AP means nothing; speed is as of trained ones.
"""
from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from benchmarks.gpu import random_weights  # noqa: E402
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, at_least  # noqa: E402
from contract.files import make_folder, read_json, write_file  # noqa: E402
from contract.stage import stage  # noqa: E402
from jobs.ways import Way, add_arguments, rate, ratio, run, table  # noqa: E402
from pose.annotations import ground_truth_boxes, load_annotations  # noqa: E402
from pose.coco import load_detections  # noqa: E402
from pose.spec import load_spec  # noqa: E402
from reference.inputs import make_inputs  # noqa: E402

# reference.capture without its recording, which the original does not do.
VALIDATE = """
from reference import capture
capture.Recorder.begin = capture.Recorder.keep = lambda *_: None
capture.main()
"""


class Original(NamedTuple):
    """The row of AlphaPose, as a jobs.ways.Way."""

    args: argparse.Namespace
    inputs: Path
    output: Path
    people: int
    seconds: List[float]
    name: str = "AlphaPose's validate.py"

    def go(self, build: bool) -> float:
        shutil.rmtree(self.output, ignore_errors=True)
        return run(stage("-c", VALIDATE, self.args.original, "--cfg", self.args.cfg, "--checkpoint",
                         self.args.checkpoint.absolute(), "--inputs", self.inputs, "--output", self.output,
                         "--batch", self.args.batch), self.args.original_python)

    def row(self, first: Way) -> Dict[str, Any]:
        ap = read_json(self.output / "captured.json", "captured")["AP"]["detected"]
        ours = read_json(first.job.metrics, "metrics")["people"]["boxes"]
        each = [[one / people for one in seconds] for seconds, people in
                ((first.seconds, ours), (self.seconds, self.people))]
        return {"runner": self.name, "bins": "in memory", "people/s": rate(self.people, self.seconds),
                "ratio": ratio(*each), "bytes per person": 0, "AP": f"{ap:.4f}", "agrees": "-"}


def original_of(args: argparse.Namespace) -> Original:
    """The photos and boxes as AlphaPose reads them, and how many people it is given: annotated and detected."""
    inputs = args.work.absolute() / "inputs"
    make_inputs(args.dataroot, args.detections or args.dataroot / "detections.json", inputs, args.limit)
    people = len(ground_truth_boxes(load_annotations(inputs))) + len(load_detections(inputs / "detections.json"))
    return Original(args, inputs, args.work.absolute() / "original", people, [])


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    add_arguments(parser)
    parser.set_defaults(dataroot=Path("data/demo"), checkpoint=None)
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="config of the network")
    parser.add_argument("--batch", type=at_least(1), default=16, help="people per batch")
    parser.add_argument("--repeat", type=at_least(1), default=3, help="rounds")
    parser.add_argument("--original", type=Path, metavar="ALPHAPOSE", help="tree of AlphaPose with AlphaPose.patch")
    parser.add_argument("--original_python", metavar="PYTHON", help="the Python that has it installed")
    parser.add_argument("--work", type=Path, default=Path("runs/one_pass"), help="bins, models, results and table.md")
    args = parser.parse_args(argv)
    if bool(args.original) != bool(args.original_python):
        parser.error("--original and --original_python go together")
    return args


def main() -> None:
    args = parse_args()
    make_folder(args.work)
    args.checkpoint = args.checkpoint or random_weights(args.work / "random.pth", load_spec(args.cfg))
    text = table(args, args.batch, args.work, [original_of(args)] if args.original else [])
    write_file(args.work / "table.md", f"{text}\n".encode())
    print(text)


if __name__ == "__main__":
    sys.exit(exit_code(main))
