"""Running an ONNX file with ONNX Runtime: in this process or, where this Python is a server's that has none, in a child
of the project's.

Between the two goes a JSON line that says what follows, then the bytes.
"""
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from typing import IO, Any, Dict, List, Sequence, Tuple

import numpy as np

PROJECT_PYTHON = "EMULATOR_PYTHON"


def open_session(onnx: bytes) -> Any:
    """Raises what ONNX Runtime raises, or from a child a RuntimeError."""
    return Session(onnx) if importlib.util.find_spec("onnxruntime") else Child(os.environ[PROJECT_PYTHON], onnx)


class Session:
    """Threads do not spin, which would take the cores from the other devices."""

    def __init__(self, onnx: bytes):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def run(self, names: List[str], feeds: Dict[str, np.ndarray]) -> List[np.ndarray]:
        return self.session.run(names, feeds)


class Child:
    """A session in another process, which ends when this one does; Ctrl-C is not for it."""

    def __init__(self, python: str, onnx: bytes):
        self.lock = threading.Lock()
        self.process = subprocess.Popen([python, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        start_new_session=True)
        self._ask({"onnx": len(onnx)}, [onnx])

    def run(self, names: List[str], feeds: Dict[str, np.ndarray]) -> List[np.ndarray]:
        return self._ask({"outputs": names, "inputs": list(feeds), "arrays": _shapes(feeds.values())}, feeds.values())

    def _ask(self, what: Dict[str, Any], data: Any) -> List[np.ndarray]:
        with self.lock:
            _send(self.process.stdin, what, data)
            answer, arrays = _receive(self.process.stdout)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return arrays


def _shapes(arrays: Any) -> List[Tuple[str, Sequence[int]]]:
    return [(array.dtype.name, array.shape) for array in arrays]


def _send(pipe: Any, what: Dict[str, Any], data: Any) -> None:
    pipe.write(json.dumps(what).encode() + b"\n")
    for part in data:
        pipe.write(part if isinstance(part, bytes) else part.tobytes())
    pipe.flush()


def _receive(pipe: Any) -> Tuple[Dict[str, Any], List[np.ndarray]]:
    line = pipe.readline()
    if not line:
        raise EOFError("the other process has ended")
    what = json.loads(line)
    arrays = []
    for dtype, shape in what.get("arrays", []):
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(pipe.read(count * np.dtype(dtype).itemsize), dtype).reshape(shape))
    return what, arrays


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """The child: first the file, then its runs."""
    session: Any = None
    while True:
        try:
            what, arrays = _receive(requests)
        except EOFError:
            return
        try:
            if "onnx" in what:
                session, results = Session(requests.read(what["onnx"])), []
            else:
                results = session.run(what["outputs"], dict(zip(what["inputs"], arrays)))
        except Exception as error:  # onnxruntime's errors share no base class
            _send(answers, {"error": str(error)}, [])
        else:
            _send(answers, {"arrays": _shapes(results)}, results)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
