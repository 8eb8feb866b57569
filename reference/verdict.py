"""Say whether this project's numbers are AlphaPose's: crops, heatmaps, keypoints, AP, of detected and annotated boxes.

    python3 -m reference.verdict --original ORIGINAL --ours OURS

ORIGINAL is what reference.capture wrote. OURS holds, for each kind of boxes, prep_data, prep_data_flip, score (of
postprocess.py) and compare.json (of compare.py, which held the heatmaps and keypoints against each other).
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from comparison.people import match_people, people_of_keypoints
from comparison.results import load_keypoints
from contract.arguments import HelpFormatter
from contract.errors import DIFFERS, DONE, UserError
from contract.files import read_json, sha256_of_file
from contract.manifest import bins_in, load_manifest
from contract.tables import format_table
from pose.metrics import keypoint_distances
from pose.people import spec_of
from reference.capture import CAPTURED

KEYPOINTS = {"detected": "validate_rcnn_kpt.json", "annotated": "validate_gt_kpt.json"}  # as validate.py names them
NEAR = 1e-3  # photo pixels
SHARE_NEAR = 0.999  # of joints; heatmaps that differ in the last bit put a joint of two equal peaks on the other one
DECIMALS = 4


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--original", required=True, help="folder of reference.capture")
    parser.add_argument("--ours", required=True, help="folder with detected/ and annotated/")
    return parser.parse_args(argv)


def check_pass(name: str, captured: Dict[str, Any], original: Path, ours: Path) -> Dict[str, Any]:
    """What was measured of one kind of boxes, and whether each stage agrees."""
    expected = captured["crops"][name]
    equal, crops = 0, sum(map(len, expected.values()))
    for flip, digests in expected.items():
        folder = ours / f"prep_data{flip}"
        names = sorted(bins_in(folder))
        if len(names) != len(digests):
            raise UserError(f"{folder}: {len(names)} crops, but AlphaPose made {len(digests)}. Run the same command "
                            "again")
        equal += sum(sha256_of_file(folder / bin_name) == digest for bin_name, digest in zip(names, digests))
    distances = keypoint_differences(original / "exp" / "json" / KEYPOINTS[name], ours)
    compared = read_json(ours / "compare.json", "comparison")
    tensors = compared["pairs"][0]["levels"]["tensors"].values()
    ap = captured["AP"][name], read_json(ours / "score" / "metrics.json", "score")["metrics"]["AP"]
    near = float((distances <= NEAR).mean())
    return {"crops": crops, "equal": equal, "heatmaps": max(folder["MaxAbsoluteError"] for folder in tensors),
            "joints": distances.size, "near": near, "AP": ap,
            "agree": {"crops": equal == crops, "compare.py": compared["agree"], "keypoints": near >= SHARE_NEAR,
                      "AP": f"{ap[0]:.{DECIMALS}f}" == f"{ap[1]:.{DECIMALS}f}"}}


def keypoint_differences(original: Path, ours: Path) -> np.ndarray:
    """(N, K) distances in photo pixels, of the people that both results keep; infinite for any other person."""
    input_size = spec_of(load_manifest(ours / "prep_data" / "manifest.json")).input_size
    a, b = (people_of_keypoints(load_keypoints(path), input_size)
            for path in (original, ours / "score" / "keypoints.json"))
    rows_a, rows_b = match_people(a, b)
    alone = len(a.keys) + len(b.keys) - 2 * len(rows_a)
    distances = keypoint_distances(a.keypoints[rows_a], b.keypoints[rows_b])
    return np.concatenate([distances, np.full((alone, distances.shape[1]), np.inf)])


def format_verdict(passes: Dict[str, Dict[str, Any]]) -> str:
    rows = [[whose, *(f"{measured['AP'][number]:.{DECIMALS}f}" for measured in passes.values())]
            for number, whose in enumerate(("AlphaPose", "this project"))]
    lines = [format_table(["", *(f"AP, {name} boxes" for name in passes)], rows), ""]
    for name, measured in passes.items():
        broken = [stage for stage, agrees in measured["agree"].items() if not agrees]
        lines.append(f"{name} boxes: {measured['equal']} of {measured['crops']} crops equal by sha256; heatmaps at "
                     f"most {measured['heatmaps']:.1e} apart; {100 * measured['near']:.3f} % of {measured['joints']} "
                     f"joints within {NEAR} px: " + (f"DIFFERENT in {', '.join(broken)}" if broken else "agree"))
    return "\n".join(lines)


def main() -> int:
    args = parse_args()
    captured = read_json(Path(args.original) / CAPTURED, "captured")
    passes = {name: check_pass(name, captured, Path(args.original), Path(args.ours) / name) for name in KEYPOINTS}
    print(format_verdict(passes))
    return DONE if all(all(measured["agree"].values()) for measured in passes.values()) else DIFFERS


if __name__ == "__main__":
    sys.exit(exit_code(main))
