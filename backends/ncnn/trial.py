"""Load a model of ncnn, run it once on zeros and print the shape of its output: what backend.py does in a process of
its own, because ncnn ends the process on a file that it does not understand."""
from __future__ import annotations

from contract.script import exit_code

import sys
from pathlib import Path

import numpy as np

from backends.ncnn.backend import Net


def main() -> None:
    param, *shape = sys.argv[1:]
    net = Net(Path(param), threads=1)
    output, = net.run(np.zeros(tuple(map(int, shape)), np.float32), net.outputs[:1])
    print(",".join(map(str, output.shape)))


if __name__ == "__main__":
    sys.exit(exit_code(main))
