"""The Caffe backend: which files it runs and which packages it needs."""
from __future__ import annotations

from contract.room import FP32, Room

ROOM = Room(
    packages={"google.protobuf": "protobuf"},
    install="python3 -m pip install -r requirements-no-torch.txt, whose onnx brings it",
    suffixes=(".prototxt", ".caffemodel"),
    words={"float32": FP32},
)
