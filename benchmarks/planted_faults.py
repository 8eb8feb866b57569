"""Plant faults of known causes in real results and count what compare.py --explain says of each.

    python3 benchmarks/planted_faults.py --model MODEL.onnx --cfg MODEL.yaml --dataroot ROOT --detections FILE.json

A fault is named rightly when a cause of its own is found. It is named honestly when none is: the answer is then "none
of the causes tried". Any other cause that is found is false. No threshold was set on the faults that are held out,
every second one. Benign pairs differ by what the gate allows, and the answer must be "not tested, the results agree".
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from faults import World, faults, quantised, to_bfloat16  # noqa: E402
from stages import run  # noqa: E402

from comparison.causes.finding import CONSISTENT, FOUND  # noqa: E402
from comparison.causes.rerun import Rerun, open_rerun  # noqa: E402
from comparison.compare import Comparison, compare  # noqa: E402
from comparison.gates import choose_limits  # noqa: E402
from comparison.results import Options, open_results, parse_result, read_results  # noqa: E402
from contract.arguments import HelpFormatter, parse  # noqa: E402
from contract.files import make_folder, write_file  # noqa: E402
from contract.manifest import load_manifest  # noqa: E402
from contract.progress import Progress  # noqa: E402
from contract.tables import format_table  # noqa: E402
from pose.people import spec_of  # noqa: E402

RIGHT, HONEST, INSIDE, FALSE = "named rightly", "none of the causes tried", "inside the gate", "FALSE"


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--model", required=True, help="ONNX file")
    parser.add_argument("--cfg", required=True, help="config of the model")
    parser.add_argument("--dataroot", required=True, help="folder with photos and annotations")
    parser.add_argument("--detections", required=True, help="detections of people on these photos")
    parser.add_argument("--people", type=int, default=35, help="how many of them")
    parser.add_argument("--only", default="", help="faults whose name holds this")
    parser.add_argument("--output", help="write the table there too")
    return parse(parser, argv)


def make_world(args: argparse.Namespace, folder: Path) -> World:
    """Bins of the first people, and what the model makes of them."""
    run(["preprocess.py", "--dataroot", args.dataroot, "--detections", args.detections, "--cfg", args.cfg, "--output",
         f"{folder}/bins", "--output_flip", f"{folder}/bins_flip"])
    manifest = load_manifest(folder / "bins" / "manifest.json")
    spec, people = spec_of(manifest), min(args.people, len(manifest))
    crops, mirrored = (np.stack([np.fromfile(folder / name / bin_name, np.float32).reshape(spec.input_shape)
                                 for bin_name in manifest.bin_names[:people]]) for name in ("bins", "bins_flip"))
    world = World(spec, manifest.of_rows(slice(0, people)), Path(args.model), Path(args.dataroot), crops, crops, crops)
    return world._replace(dumps=world.infer(crops), flipped=world.infer(mirrored))


class Campaign:
    """The reference's dumps in `folder`, and the model that explains."""

    def __init__(self, world: World, folder: Path, gate: str = "fp16"):
        self.world, self.folder = world, folder
        self.options = Options(world.spec, choose_limits(gate, [], None, None), "clean", 0, 0, 2)
        self.rerun: Rerun = open_rerun(str(world.model), folder / "bins", world.spec, world.dataroot)
        self.reference = self.write("reference", world.dumps, world.flipped)

    def write(self, name: str, dumps: np.ndarray, flipped: np.ndarray) -> str:
        folders = [make_folder(self.folder / f"{name}{suffix}") for suffix in ("", "_flip")]
        for folder, values in zip(folders, (dumps, flipped)):
            for number, heatmaps in enumerate(values):
                np.ascontiguousarray(heatmaps).tofile(folder / f"{number:012d}_0.bin")
        return ",".join(map(str, folders))

    def compare(self, dumps: np.ndarray, flipped: np.ndarray) -> Comparison:
        results = [parse_result(text) for text in (self.reference, self.write("planted", dumps, flipped))]
        open_results(results, self.world.manifest)
        read_results(results, self.options, None)
        return compare(results[0], results[1], self.options, True, self.rerun)


def judge(comparison: Comparison, causes: Any) -> Dict[str, Any]:
    found = [finding.cause for finding in comparison.findings if finding.status == FOUND]
    partly = [finding.cause for finding in comparison.findings if finding.status == CONSISTENT]
    outcome = INSIDE if comparison else HONEST if not found else RIGHT if set(found) & set(causes) else FALSE
    return {"found": found, "partly": partly, "outcome": outcome}


def benign(world: World) -> Dict[str, np.ndarray]:
    """What differs and must not matter: order of sums, batches, storage in float16."""
    rng = np.random.default_rng(0)
    size = np.abs(world.dumps).max()
    made = {f"noise of {power:g} of the largest value": (world.dumps + size * power * rng.standard_normal(
        world.dumps.shape)).astype(np.float32) for power in (1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4)}
    made.update({f"batches of {batch}": np.concatenate([
        world.infer(world.crops[start:start + batch]) for start in range(0, len(world.crops), batch)])
        for batch in (1, 2, 3, 5, 7, 8, 11)})
    made.update({"the same": world.dumps, "stored as float16": world.dumps.astype(np.float16),
                 "float16 and back": world.dumps.astype(np.float16).astype(np.float32), "of 16 bits": quantised(
                     world.dumps, 16), "crops rounded to float16": world.infer(world.crops.astype(np.float16)),
                 "one bit of bfloat16 more": (to_bfloat16(world.dumps) + 255 * world.dumps) / 256})
    return made


def main() -> None:
    args = parse_args()
    rows, outcomes, halves = [], Counter(), {"train": Counter(), "held": Counter()}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        world = make_world(args, folder)
        campaign = Campaign(world, folder)
        every = {name: fault for name, fault in faults(folder).items() if args.only in name}
        for number, (name, fault) in enumerate(Progress(list(every.items()), unit="fault", desc="planted faults")):
            flipped = fault.plant_flipped(world) if fault.plant_flipped else world.flipped
            result = judge(campaign.compare(fault.plant(world), flipped), fault.causes)
            half = "held" if number % 2 else "train"
            halves[half][result["outcome"]] += 1
            rows.append([name, half, " or ".join(fault.causes) or "-", ", ".join(result["found"]) or "-",
                         ", ".join(result["partly"]) or "-", result["outcome"]])
        for dumps in benign(world).values() if not args.only else ():
            comparison = campaign.compare(dumps, world.flipped)
            outcomes["agree, not tested" if comparison and "not tested" in comparison.conclusion else FALSE] += 1
    table = format_table(["fault planted", "half", "cause", "found", "consistent with", "outcome"], rows)
    total = halves["train"] + halves["held"]
    text = "\n".join([table, "", *(f"{name}: {dict(counts)}" for name, counts in (
        ("train", halves["train"]), ("held out", halves["held"]), ("all", total), ("benign", outcomes)))])
    print(text)
    if args.output:
        write_file(args.output, (text + "\n").encode())


if __name__ == "__main__":
    main()
