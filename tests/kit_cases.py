"""What the tests of kits share: one packed of a few rendered photos, and how it is run and judged."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Optional

from ascend_cases import run
from conftest import ROOT, done

SOC, BATCH = "Ascend310P3", 4
BARE = {**os.environ, "VIRTUAL_ENV": sys.prefix}


class Kits:
    """A folder with rendered photos, weights and a kit, all of whose runs share a work folder."""

    def __init__(self, folder: Path):
        self.folder, self.work = folder, folder / "work"
        done(run(BARE, "-m", "demo.render", "--output", folder / "data", "--images", 3))
        for name in ("fastpose_small.pth", "yolov3_demo.weights"):
            shutil.copy(ROOT / "demo" / name, folder)
        self.inputs = ["--dataroot", folder / "data", "--checkpoint", folder / "fastpose_small.pth", "--cfg",
                       "configs/demo_fastpose.yaml", "--weights", folder / "yolov3_demo.weights", "--yolo_cfg",
                       "configs/demo_yolov3_tiny.cfg"]

    def pack(self, output: Path, *options: object) -> subprocess.CompletedProcess:
        return run(BARE, "pack.py", "--quiet", *self.inputs, "--work", self.work, "--output", output, *options)

    def judge(self, *tars: Path) -> subprocess.CompletedProcess:
        return run(BARE, "pack.py", "--judge", *tars, "--work", self.work, "--quiet")


def unpack(kit: Path, place: Path) -> Path:
    """The folder kit/ in `place`, by the tar of the system, as a server's user does it."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "xf", str(kit)], cwd=place, check=True)
    return place / "kit"


def run_kit(kit: Path, env: Dict[str, str], *options: object, python: Optional[Path] = None
            ) -> subprocess.CompletedProcess:
    """`bash kit/run.sh OPTIONS`, not from the project's root."""
    env = {name: value for name, value in env.items() if name != "PYTHON"}  # of scripts/test.sh, not of the server
    return subprocess.run(["bash", str(kit / "run.sh"), *map(str, options)], cwd=kit.parent, env=env,
                          capture_output=True, text=True, timeout=900)
