"""What tests and benchmarks share: several nodes of Ray on this one machine, and images that cannot be read.

Each node is a raylet with one CPU, so that a worker has one thread.
"""
from __future__ import annotations

import contextlib
import os
import struct
import subprocess
from pathlib import Path
from typing import Any, Iterator, List

SIDE = 60000  # of 3.6e9 pixels, which would be 11 GB when decoded
GIANTS = (  # PNG, BMP, TIFF, WEBP
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBBI", SIDE, SIDE, 8, 2, 0, 0, 0, 0),
    b"BM" + struct.pack("<IIIIiiHH", 0, 0, 54, 40, SIDE, SIDE, 1, 24) + bytes(24),
    b"II*\0" + struct.pack("<IHHHIIHHIII", 8, 2, 256, 4, 1, SIDE, 257, 4, 1, SIDE, 0),
    b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + 2 * (SIDE - 1).to_bytes(3, "little"))
WORKER = "ray::MapWorker"  # what Ray calls a process that holds a PredictShard


@contextlib.contextmanager
def nodes_here(count: int = 2, **head: Any) -> Iterator[Any]:
    """Ray's own Cluster: `address`, `add_node(num_cpus=1)`, `remove_node(node, allow_graceful=False)`. `head` says what
    else its first node has: resources={"NPU": 2}."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **head})
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def workers_here() -> List[int]:
    """Process numbers of the workers of nodes that this process has started."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()[1:]
    rows = [(int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in listed)]
    nodes = {pid for pid, parent, _ in rows if parent == os.getpid()}
    return [pid for pid, parent, args in rows if parent in nodes and args.startswith(WORKER)]


def column(told: str, name: str) -> str:
    """Of the table of one row that predict.py prints; Ray may have told something before it."""
    names, _, values = ([cell.strip() for cell in line.split("|")] for line in told.splitlines() if line[:1] == "|")
    return values[names.index(name)]


def poison(folder: Path, every: int) -> List[Path]:
    """Spoil the `every`-th JPEG of a folder, and so on: in turn it becomes empty, is cut short, or says that it has
    SIDE x SIDE pixels, as a JPEG and in the formats of GIANTS. Returns which."""
    spoilt = sorted(folder.glob("*.jpg"))[every - 1::every]
    for number, path in enumerate(spoilt):
        content = path.read_bytes()
        size = content.index(b"\xff\xc0") + 5  # in the segment that begins a baseline frame
        giant = content[:size] + 2 * SIDE.to_bytes(2, "big") + content[size + 4:]
        ways = (b"", content[:len(content) // 2], giant, *GIANTS)
        path.write_bytes(ways[number % len(ways)])
    return spoilt
