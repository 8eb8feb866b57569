"""Say whether features of several backends are the same: compare.py, under a name that goes with reid.extract.

    python3 -m reid.check torch=features/torch onnx=features/onnx caffe=features/caffe --gate fp32
"""
from __future__ import annotations

from contract.script import exit_code

import runpy
import sys
from pathlib import Path


def main() -> None:
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "compare.py"), run_name="__main__")


if __name__ == "__main__":
    sys.exit(exit_code(main))
