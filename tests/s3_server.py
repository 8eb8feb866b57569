"""moto's server of S3 whose objects outlive its process: python3 tests/s3_server.py PORT RECORDING

Each request is written to the file RECORDING. A server that finds one first does what it says, then answers.
"""
from __future__ import annotations

import os
import sys
from pathlib import Path


def main(port: int, recording: Path) -> None:
    os.environ["MOTO_RECORDER_FILEPATH"] = str(recording)  # read when moto is imported
    from moto.moto_api import recorder
    from moto.server import DomainDispatcherApplication, ThreadedMotoServer, create_backend_app
    from werkzeug.serving import run_simple

    if recording.exists():
        lines = recording.read_bytes().splitlines(keepends=True)
        recording.write_bytes(b"".join(line for line in lines if line.endswith(b"\n")))  # the last may be cut short
        private = ThreadedMotoServer(port=port + 1, verbose=False)
        private.start()
        recorder.replay_recording(f"http://127.0.0.1:{port + 1}")
        private.stop()
    recorder.start_recording()
    run_simple("127.0.0.1", port, DomainDispatcherApplication(create_backend_app))  # one request after another


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
