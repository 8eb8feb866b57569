"""Plant faults of known causes in real results and count what compare.py --explain says of each.

    python3 benchmarks/planted_faults.py --work ./runs/planted --world MODEL.onnx CFG.yaml DATAROOT DETECTIONS.json

A fault is named rightly when a cause of its own is found, of a pair when both are. What does exactly the same as
another cause, such as the last layer with the other sign, is named by its equal. Where none is found, the answer is
"none of the causes tried". Any other cause that is found is false. Thresholds were chosen with the faults of faults.py
in sight; those of fresh_faults.py, held_out_faults.py, practice_faults.py and last_faults.py came later, in this order.
Of benign pairs the answer must be "not tested, the results agree".
WORK/outcomes.jsonl holds what was tried with this version of the comparison, so that a run that was stopped goes on.
Exit code 3: a cause was claimed falsely.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from contract.script import exit_code  # noqa: E402

from benign_pairs import benign_pairs  # noqa: E402
from faults import Fault, World, faults  # noqa: E402
from fresh_faults import fresh_faults  # noqa: E402
from held_out_faults import held_out_faults  # noqa: E402
from last_faults import last_faults  # noqa: E402
from practice_faults import practice_faults  # noqa: E402
from stages import run  # noqa: E402

from comparison.causes.diagnosis import is_exact  # noqa: E402
from comparison.causes.rerun import Rerun, open_rerun  # noqa: E402
from comparison.compare import Comparison, compare  # noqa: E402
from comparison.decoded import require_finite  # noqa: E402
from comparison.finding import CONSISTENT, FOUND  # noqa: E402
from comparison.gates import choose_limits  # noqa: E402
from comparison.results import Options, open_results, parse_result, read_results  # noqa: E402
from contract.arguments import HelpFormatter, at_least, parse  # noqa: E402
from contract.errors import DONE, MISSED, UserError  # noqa: E402
from contract.files import make_folder, write_file, write_json  # noqa: E402
from contract.locks import hold  # noqa: E402
from contract.manifest import load_manifest  # noqa: E402
from contract.progress import Progress  # noqa: E402
from contract.tables import format_table  # noqa: E402
from pose.people import spec_of  # noqa: E402
from pose.spec import load_spec  # noqa: E402

RIGHT, EQUAL, HONEST, INSIDE, REFUSED, FALSE = OUTCOMES = (
    "named rightly", "by its equal", "none of the causes tried", "inside the gate", "refused", "FALSE")

GROUPS = {"seen": faults, "fresh": fresh_faults, "held_out": held_out_faults, "practice": practice_faults,
          "last": last_faults}
BENIGN = "benign"


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("--work", required=True, help="folder for bins, dumps, outcomes.jsonl and planted.md")
    parser.add_argument("--world", nargs="+", action="append", required=True, metavar="FILE",
                        help="MODEL.onnx CFG.yaml DATAROOT DETECTIONS.json [CHECKPOINT]; may be repeated")
    parser.add_argument("--people", type=at_least(24), default=24, help="how many of them")
    parser.add_argument("--group", nargs="+", choices=[*GROUPS, BENIGN], default=[*GROUPS, BENIGN],
                        help="which faults, and pairs, to try")
    parser.add_argument("--every", type=at_least(1), default=1, help="2 tries half of each group, 4 a quarter")
    parser.add_argument("--only", default="", help="faults whose name holds this")
    args = parse(parser, argv)
    if any(len(world) not in (4, 5) for world in args.world):
        parser.error("--world takes MODEL.onnx CFG.yaml DATAROOT DETECTIONS.json, and may take CHECKPOINT")
    return args


def make_world(given: List[str], people: int, folder: Path) -> World:
    """Bins of the first people, and what the model makes of them."""
    model, cfg, dataroot, detections = given
    run(["preprocess.py", "--dataroot", dataroot, "--detections", detections, "--cfg", cfg, "--output",
         f"{folder}/bins", "--output_flip", f"{folder}/bins_flip"])
    manifest = load_manifest(folder / "bins" / "manifest.json")
    spec, people = spec_of(manifest), min(people, len(manifest))
    crops, mirrored = (np.stack([np.fromfile(folder / name / bin_name, np.float32).reshape(spec.input_shape)
                                 for bin_name in manifest.bin_names[:people]]) for name in ("bins", "bins_flip"))
    world = World(spec, manifest.of_rows(slice(0, people)), Path(model), Path(dataroot), crops, crops, crops)
    return world._replace(dumps=world.infer(crops), flipped=world.infer(mirrored))


class Remembering(Rerun):
    """What the model made of a person's crop it need not make again for the next fault, which others may show."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("made", "made_bgr") and self.made_of[0]:  # of those in `made_of` it is to be made from now on
            value = self.exchange(name, *self.made_of)
        super().__setattr__(name, value)

    def exchange(self, name: str, rows: bytes, mirrored: bool) -> Dict[Any, np.ndarray]:
        """Keeps what was made of the people before, and gives what is known of all people in `rows`."""
        known: Dict[Any, Dict[int, np.ndarray]] = self.__dict__.setdefault(f"known_{name}", {})
        earlier, side = self.__dict__.get(f"rows_{name}", (b"", False))
        for key, heatmaps in getattr(self, name).items():
            known.setdefault((side, key), {}).update(zip(rows_in(earlier), heatmaps))
        self.__dict__[f"rows_{name}"] = rows, mirrored
        return {key: np.stack([of[row] for row in rows_in(rows)]) for (side, key), of in known.items()
                if side == mirrored and of.keys() >= set(rows_in(rows))}


def rows_in(content: bytes) -> List[int]:
    return np.frombuffer(content, np.int64).tolist()


class Campaign:
    """The reference's dumps in `folder`, and the model that explains."""

    def __init__(self, world: World, folder: Path, gate: str = "fp16"):
        self.world, self.folder = world, folder
        self.options = Options(world.spec, choose_limits(gate, [], None, None), "clean", 0, 0, 2)
        rerun = open_rerun(str(world.model), folder / "bins", world.spec, world.dataroot)
        self.rerun = Remembering(rerun.model, rerun.backend, rerun.bins, rerun.photos)
        self.reference = self.write("reference", world.dumps, world.flipped)
        self.reference_people = self.write_people("reference", world.people())

    def write(self, name: str, dumps: np.ndarray, flipped: np.ndarray) -> str:
        folders = [make_folder(self.folder / f"{name}{suffix}") for suffix in ("", "_flip")]
        for folder, values in zip(folders, (dumps, flipped)):
            for number, heatmaps in enumerate(values):
                np.ascontiguousarray(heatmaps).tofile(folder / f"{number:012d}_0.bin")
        return ",".join(map(str, folders))

    def write_people(self, name: str, people: List[Dict[str, Any]]) -> str:
        write_json(self.folder / f"{name}.json", people)
        return str(self.folder / f"{name}.json")

    def compare(self, *given: str) -> Comparison:
        """Raises UserError as compare.py does."""
        results = [parse_result(text) for text in given]
        open_results(results, self.world.manifest)
        for result in results:
            for reader in result.readers:
                require_finite(reader, 2)
        read_results(results, self.options, None)
        return compare(results[0], results[1], self.options, True, self.rerun)

    def plant(self, fault: Fault) -> Comparison:
        if fault.people:
            reference = f"{self.reference},{self.reference_people}"
            return self.compare(reference, self.write_people("planted", fault.people(self.world)))
        assert fault.plant
        return self.compare(self.reference, self.write(
            "planted", fault.plant(self.world).astype(np.float32),
            fault.plant_flipped(self.world) if fault.plant_flipped else self.world.flipped))

    def outcome(self, fault: Fault) -> Dict[str, Any]:
        try:
            comparison = self.plant(fault)
        except UserError as error:
            right = fault.says and fault.says in str(error)
            return {"found": [str(error)], "partly": [], "outcome": RIGHT if right else REFUSED}
        found, partly = ([finding.cause for finding in comparison.findings if finding.status == status]
                         for status in (FOUND, CONSISTENT))
        right = set(found) == set(fault.causes) if fault.pair else set(found) <= set(fault.causes)
        equal = found == [fault.equal] and is_exact(comparison.findings[0])
        outcome = (INSIDE if comparison else HONEST if not found else RIGHT if right else EQUAL if equal else FALSE)
        return {"found": found, "partly": partly, "outcome": outcome}


class Outcomes:
    """What was tried with this version of the comparison, one line each, so that a run that was stopped goes on."""

    def __init__(self, path: Path):
        self.path, code = path, hashlib.sha256()
        for source in sorted((ROOT / "comparison").rglob("*.py")):
            code.update(source.read_bytes())
        self.version, self.known = code.hexdigest()[:12], {}
        for line in path.read_text().splitlines() if path.exists() else ():
            kept = json.loads(line)
            if kept["version"] == self.version:
                self.known[kept["key"]] = kept["outcome"]

    def of(self, key: str, make: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        if key not in self.known:
            self.known[key] = make()
            with open(self.path, "a") as file:
                file.write(json.dumps({"version": self.version, "key": key, "outcome": self.known[key]}) + "\n")
        return self.known[key]


class Row(NamedTuple):
    world: str
    group: str
    name: str
    causes: str
    found: str
    partly: str
    outcome: str


def run_world(given: List[str], args: argparse.Namespace, work: Path, outcomes: Outcomes) -> List[Row]:
    given, checkpoint = given[:4], given[4:]
    name = Path(given[0]).stem
    folder = make_folder(work / name)
    world = make_world(given, args.people, folder)
    campaign = Campaign(world, folder)
    planted = [(group, fault, one) for group, make in GROUPS.items() if group in args.group
               for fault, one in [*make(folder).items()][::args.every] if args.only in fault]
    rows = []
    for group, fault, one in Progress(planted, unit="fault", desc=name):
        result = outcomes.of(f"{name}: {fault}", lambda one=one: campaign.outcome(one))
        rows.append(Row(name, group, fault, (" and " if one.pair else " or ").join(one.causes) or "-", *(
            ", ".join(result[key]) or "-" for key in ("found", "partly")), result["outcome"]))
    of_checkpoint = world._replace(spec=load_spec(given[1]))  # with what the network is, which bins do not say
    pairs = benign_pairs(folder, checkpoint[0] if checkpoint else None) if BENIGN in args.group else {}
    for pair, make in Progress(list(pairs.items()), unit="pair", desc=f"{name}, benign"):
        comparison = campaign.compare(campaign.reference, campaign.write("planted", make(of_checkpoint), world.flipped))
        agree = comparison and "not tested" in comparison.conclusion
        rows.append(Row(name, BENIGN, pair, "-", "-", "-", INSIDE if agree else FALSE))
    return rows


def main() -> int:
    args = parse_args()
    work = make_folder(Path(args.work))
    with hold(work):
        outcomes = Outcomes(work / "outcomes.jsonl")
        rows = [row for given in args.world for row in run_world(given, args, work, outcomes)]
    counts = Counter((row.world, row.group, row.outcome) for row in rows)
    kinds = sorted({(row.world, row.group) for row in rows})
    summary = format_table(["network", "faults", *OUTCOMES], [
        [world, group, *(str(counts[world, group, outcome]) for outcome in OUTCOMES)] for world, group in kinds])
    write_file(work / "planted.md", (summary + "\n\n" + format_table(
        ["network", "group", "planted", "cause", "found", "consistent with", "outcome"], rows) + "\n").encode())
    print(f"comparison {outcomes.version}\n{summary}")
    return MISSED if any(row.outcome == FALSE for row in rows) else DONE


if __name__ == "__main__":
    sys.exit(exit_code(main))
