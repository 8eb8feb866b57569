"""Make the numbers of this folder: AlphaPose's own code on the demo's rendered photos.

    python3 -m tests.golden.make ../AlphaPose --work /tmp/golden

`../AlphaPose` is a clone of github.com/MVIG-SJTU/AlphaPose. scripts/reference.sh runs it, with AlphaPose.patch.
AlphaPose builds FastPose at its full width alone, so the demo's network, which is trained, is widened by channels that
are zero: it computes the same heatmaps, and its AP moves when anything before it does.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import torch

from contract.files import make_folder, write_json
from demo.render import TEST_SEED, render
from networks.checkpoint import read_state_dict
from networks.fastpose import FastPose
from reference.capture import CAPTURED, PASSES
from reference.verdict import KEYPOINTS

ROOT, HERE = Path(__file__).resolve().parents[2], Path(__file__).resolve().parent
CHECKPOINT = ROOT / "demo" / "fastpose_small.pth"
PHOTOS, WHOLE_HEATMAPS = 12, 2  # of the detected people, that many are kept whole
SHIFTS = ("clean", "original")
JOINTS, HEATMAP = 17, (64, 48)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clone", help="a clone of AlphaPose")
    parser.add_argument("--work", required=True, type=Path, help="folder for photos, checkpoint and both runs")
    return parser.parse_args(argv)


def widened(small: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    """The weights of a narrow FastPose in one of full width, whose further channels are zero and stay so."""
    wide = FastPose().state_dict()
    for key, value in wide.items():
        filled = torch.full_like(value, 1 if key.endswith("running_var") else 0)
        filled[tuple(map(slice, small[key].shape))] = small[key]
        wide[key] = filled
    return wide


def heatmaps_of(folder: Path) -> np.ndarray:
    """(N, 17, 64, 48) float32, in the order of the people."""
    return np.stack([np.fromfile(path, "<f4").reshape(JOINTS, *HEATMAP) for path in sorted(folder.glob("*.bin"))])


def figures_of(heatmaps: np.ndarray) -> Dict[str, np.ndarray]:
    """What is kept of every heatmap: where its peak is, how high, and its mean."""
    flat = heatmaps.reshape(*heatmaps.shape[:2], -1)
    return {"argmax": flat.argmax(axis=2).astype(np.int16), "max": flat.max(axis=2),
            "mean": flat.mean(axis=2, dtype=np.float64).astype(np.float32)}


def run_reference(clone: Path, data: Path, checkpoint: Path, work: Path) -> None:
    for shift in SHIFTS:
        subprocess.run(["bash", str(ROOT / "scripts" / "reference.sh"), str(clone), "--dataroot", str(data),
                        "--detections", str(data / "detections.json"), "--checkpoint", str(checkpoint),
                        "--flip_shift", shift, "--work", str(work)], check=True)


def collect(work: Path) -> Dict[str, Any]:
    """AP, digests of crops, and keypoints, for both kinds of boxes and both shifts."""
    captured = {shift: json.loads((work / f"original_{shift}" / CAPTURED).read_text()) for shift in SHIFTS}
    return {"photos": PHOTOS, "seed": TEST_SEED, "crops": captured["clean"]["crops"],
            "AP": {shift: captured[shift]["AP"] for shift in SHIFTS},
            "keypoints": {shift: {name: rows_of(work / f"original_{shift}" / "exp" / "json" / KEYPOINTS[name])
                                  for name in PASSES} for shift in SHIFTS}}


def rows_of(path: Path) -> List[Dict[str, Any]]:
    return [{"image_id": row["image_id"], "score": row["score"], "keypoints": row["keypoints"]}
            for row in json.loads(path.read_text())]


def main() -> None:
    args = parse_args()
    work = make_folder(args.work.absolute())
    render(work / "data", PHOTOS, TEST_SEED)
    checkpoint = work / "widened.pth"
    if not checkpoint.exists():
        torch.save(widened(read_state_dict(CHECKPOINT)), checkpoint)
    run_reference(Path(args.clone).absolute(), work / "data", checkpoint, work)
    write_json(HERE / "alphapose.json", collect(work))
    arrays = {}
    for flip in ("", "_flip"):
        heatmaps = heatmaps_of(work / "original_clean" / "detected" / f"heatmaps{flip}")
        arrays.update({f"{name}{flip}": value for name, value in figures_of(heatmaps).items()})
        arrays[f"heatmaps{flip}"] = heatmaps[:WHOLE_HEATMAPS]
    np.savez_compressed(HERE / "heatmaps.npz", **arrays)


if __name__ == "__main__":
    sys.exit(exit_code(main))
